"""Speed beside a peer: both sides take turns in one run, and the ratio of their medians is what counts."""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch read it

import tyro

from rl_lab.cli import main, parse
from rl_lab.config import unknown_name
from rl_lab.learning import learn, set_threads
from rl_lab.registry import preset_fields
from rl_lab.types import UsageError

QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0}


@dataclass(frozen=True)
class Options:
    """What benchmark.py takes."""

    name: tyro.conf.Positional[str]
    """Benchmark: acting, sb3."""
    json: str | None = None
    """File for the results."""
    turns: int = 5
    """Times that each side is run."""


@dataclass(frozen=True)
class Work:
    """One piece of work, done by us and by a peer; a side returns the seconds it took."""

    work: str
    peer: str
    ours: Callable[[], float]
    theirs: Callable[[], float]


def lab_seconds(agent: str, **fields: Any) -> float:
    """Train in a run directory and return the training clock."""
    with tempfile.TemporaryDirectory() as folder:
        summary = learn(agent, "CartPole-v1", run_dir=f"{folder}/run", **QUIET, **fields).summary
    assert summary is not None
    return summary["train_seconds"]


def plain_sb3_seconds(total_steps: int, **arguments: Any) -> float:
    """Train SB3's DQN as its own users do and return the seconds of learn()."""
    from stable_baselines3 import DQN

    model = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


def acting() -> list[Work]:
    """Act and store without gradient steps: N = 1, MLP 256-256, epsilon 0.1 on both sides."""
    steps = 20_000
    fields: dict[str, Any] = {
        "total_steps": steps,
        "hidden": (256, 256),
        "gradient_steps_per_update": 0,
        "learning_starts_env_steps": 0,
        "epsilon_initial": 0.1,
        "epsilon_final": 0.1,
        "target_period_env_steps": 10_000,
    }
    from agents.sb3 import DQNConfig

    arguments = DQNConfig(**{k: v for k, v in fields.items() if k != "total_steps"}).arguments(1)
    return [
        Work(
            f"acting and storing, CartPole-v1, N = 1, MLP 256-256, {steps} steps",
            "sb3",
            lambda: lab_seconds("dqn", **fields),
            lambda: plain_sb3_seconds(steps, **arguments),
        )
    ]


def sb3() -> list[Work]:
    """SB3's DQN through the lab beside plain SB3: what the lab's records and seeds cost it."""
    steps = 10_000
    fields = preset_fields("sb3-dqn", "zoo:CartPole-v1") | {"total_steps": steps}
    from agents.sb3 import build_dqn

    learner = build_dqn(**{k: v for k, v in fields.items() if k != "total_steps"})
    arguments = learner.config.arguments(1)
    return [
        Work(
            f"sb3-dqn through the lab, CartPole-v1, zoo hyperparameters, {steps} steps",
            "sb3",
            lambda: lab_seconds("sb3-dqn", **fields),
            lambda: plain_sb3_seconds(steps, **arguments),
        )
    ]


BENCHMARKS: dict[str, Callable[[], list[Work]]] = {"acting": acting, "sb3": sb3}


def compare(work: Work, turns: int) -> dict[str, Any]:
    """Let the sides take turns after one uncounted turn each; return a row of results."""
    work.ours(), work.theirs()
    pairs = [(work.ours(), work.theirs()) for _ in range(turns)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(t / o for o, t in pairs)
    print(f"{work.work}: ours {ours:.2f} s, {work.peer} {theirs:.2f} s")
    print(f"  ratio {theirs / ours:.2f} (turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
    return {
        "work": work.work,
        "peer": work.peer,
        "unit": "s",
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs / ours,
        "ratio_range": [ratios[0], ratios[-1]],
    }


def benchmark(argv: Sequence[str]) -> int:
    """Run one benchmark by name."""
    options: Options = parse(Options, argv, description=__doc__)
    if options.name not in BENCHMARKS:
        raise UsageError(unknown_name("benchmark", options.name, sorted(BENCHMARKS)))
    if options.turns < 1:
        raise UsageError(f"turns must be at least 1, got {options.turns}")
    set_threads(1)
    results = [compare(work, options.turns) for work in BENCHMARKS[options.name]()]
    if options.json:
        Path(options.json).write_text(json.dumps({"results": results}, indent=1))
    return 0


if __name__ == "__main__":
    main(benchmark)

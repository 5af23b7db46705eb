"""Several seeds that learn as one program, beside one seed that learns alone."""

from __future__ import annotations

import tempfile
from functools import partial
from statistics import median
from typing import Any

from rl_lab.benchmarks.training import QUIET, lab_seconds
from rl_lab.benchmarks.work import Work
from rl_lab.training.launch import learn

TIMES_ONE = 4.0  # the most that SEEDS seeds of dqn may take, measured in the time of one
SEEDS = 8
DQN: dict[str, Any] = {"hidden": (64, 64)}
PPO: dict[str, Any] = {"num_envs": 8, "n_steps": 32, "batch_size": 64, "n_epochs": 4}


def together_seconds(agent: str, seeds: int, **fields: Any) -> float:
    """Train several seeds as one program, a run directory each, and return the seconds of training of all of them."""
    with tempfile.TemporaryDirectory() as folder:
        results = learn(agent, "CartPole-v1", num_seeds=seeds, run_dir=f"{folder}/runs", **QUIET, **fields)
        return sum(result.summary["train_seconds"] for result in results if result.summary is not None)


def seeds_work(agent: str, seeds: int, fields: dict[str, Any], compile_: str, *, bar: bool) -> Work:
    """Return the time that a seed takes among several beside that of a seed alone.

    Args:
        bar: whether the row tells how much several seeds may take.
    """
    fields = fields | {"compile": compile_}
    each: list[float] = []
    alone: list[float] = []

    def ours() -> float:
        each.append(together_seconds(agent, seeds, **fields) / seeds)
        return each[-1]

    def theirs() -> float:
        alone.append(lab_seconds(agent, **fields))
        return alone[-1]

    def more() -> dict[str, Any]:
        ones = median(each) * seeds / median(alone)
        return {"times_one_seed": ones} | ({"times_one_seed_at_most": TIMES_ONE} if bar else {})

    described = ", ".join(f"{name} {value}" for name, value in fields.items())
    return Work(
        f"{agent}, CartPole-v1, {seeds} seeds as one program, per seed; {described}",
        "one seed alone",
        ours,
        theirs,
        more=more,
    )


def batched(seeds: int = SEEDS, steps: int = 20_000) -> list[Work]:
    """Return dqn and ppo on CartPole, eager and compiled; a ratio of seeds / 4 or more is the bar of dqn.

    Args:
        seeds: that learn as one program.
        steps: of each run.
    """
    work = partial(seeds_work, seeds=seeds)
    return [
        *(work("dqn", fields=DQN | {"total_steps": steps}, compile_=c, bar=True) for c in ("no", "yes")),
        work("ppo", fields=PPO | {"total_steps": steps}, compile_="no", bar=False),
    ]

"""Time how long an agent takes from the start of its process to a policy that balances CartPole, on unseen seeds.

Each run is a process of its own, `rl-lab train` with a preset, and one after another: PQN's recommended one, and DQN's
beside it. A run counts as solved if its greedy policy means 475 or more. The results are kept as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.checks import count
from rl_lab.cli.parsing import main, parse
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file
from rl_lab.storage.versions import versions

PRESET = "recommended:CartPole-v1"
THRESHOLD = 475.0
# As published, each on hardware of its own, and with other ways to evaluate.
PUBLISHED = {
    "CleanRL pqn.py": {
        "return": 495.0,
        "minutes": 0.83,
        "source": "https://docs.cleanrl.dev/rl-algorithms/pqn/",
    },
}


@dataclass(frozen=True)
class Options:
    """The script's options."""

    out: str = "scripts/results/pqn_cartpole.json"
    """File of the results."""
    agents: tuple[str, ...] = ("pqn", "dqn")
    """Agents whose preset recommended:CartPole-v1 is tried."""
    seeds: int = 10
    """Number of seeds, from first_seed on."""
    first_seed: int = 32_000
    """First seed; neither preset was chosen on it or on those after it."""
    total_steps: int | None = None
    """Budget in place of the preset's own, to try the script out."""


def pqn_cartpole(argv: Sequence[str]) -> int:
    """Run all seeds, print and keep the results; return 1 if the first agent misses the threshold on a seed.

    Raises:
        UsageError: a wrong option.
    """
    options: Options = parse(Options, argv, program="scripts/pqn_cartpole.py", about=__doc__)
    require_file(options.out, "out")
    seeds = range(options.first_seed, options.first_seed + count("seeds", options.seeds))
    results: dict[str, Any] = {}
    for agent in options.agents:
        runs: list[dict[str, Any]] = []
        for seed in seeds:
            runs.append(_run(agent, seed, options.total_steps))
            print(f"{agent}: {runs[-1]}", flush=True)
            results[agent] = _together(runs)
            write_json(
                options.out,
                {
                    "command": "python scripts/pqn_cartpole.py", "env_id": "CartPole-v1", "preset": PRESET,
                    "threshold": THRESHOLD, "agents": results, "published": PUBLISHED, "versions": versions(),
                },
            )  # fmt: skip
    first = results[options.agents[0]]
    return 0 if first["solved"] == len(seeds) else 1


def _run(agent: str, seed: int, total_steps: int | None) -> dict[str, Any]:
    """Train once in a process of its own; return what became of it, and the seconds of the whole process.

    Raises:
        CalledProcessError: the run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [
            sys.executable, "-m", "rl_lab", "train", "--agent", agent, "--env-id", "CartPole-v1", "--preset", PRESET,
            "--seed", str(seed), "--run-dir", str(run_dir), "--eval-episodes", "20", "--eval-envs", "20", "--wandb",
            "disabled", "--video-episodes", "0", "--no-pictures",
        ]  # fmt: skip
        if total_steps is not None:
            command += ["--total-steps", str(total_steps)]
        begun, cpu = time.perf_counter(), _children_seconds()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds, cpu = time.perf_counter() - begun, _children_seconds() - cpu
        summary = json.loads((run_dir / "summary.json").read_bytes())
    names = ("seed", "env_steps", "gradient_steps", "eval_return_mean", "train_seconds")
    return {name: summary[name] for name in names} | {
        "process_seconds": round(seconds, 2), "process_cpu_seconds": round(cpu, 2),
    }  # fmt: skip


def _children_seconds() -> float:
    """Return the processor time of all processes that have been waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _together(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of an agent's runs, and the runs themselves."""
    return {
        "solved": sum(run["eval_return_mean"] >= THRESHOLD for run in runs),
        "seeds": len(runs),
        **{
            f"{name}_median": float(np.median([run[name] for run in runs]))
            for name in ("process_seconds", "process_cpu_seconds", "train_seconds")
        },
        "runs": list(runs),
    }


if __name__ == "__main__":
    main(pqn_cartpole)

"""Show that long runs stay flat: memory and open files over a million steps of DQN and over ten thousand evaluations.

    python scripts/soak.py --json soak.json

Memory and handles are sampled at rows of metrics. After the warm-up, a fifth of the samples, handles must stay as
they are, and memory may grow by a few MB, which allocators need to settle. The exit code is 1 if they don't. What may
grow is left out by the settings: a replay until it is full (it is, within the warm-up), the actions of an episode
that doesn't end, and the files of the run on disk. The defaults take about an hour.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

import rl_lab
from rl_lab.runs.progress import NullProgress
from rl_lab.storage.files import write_json

WARM_UP = 0.2  # share of the samples
MOST_GROWTH_MB = 16.0  # after the warm-up
QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "pictures": False}


@dataclass(frozen=True)
class Sample:
    """What a process holds at a step."""

    env_steps: int
    memory_mb: float
    handles: int
    threads: int


@dataclass(frozen=True)
class Soaked:
    """The samples of a long run."""

    work: str
    samples: list[Sample]

    def later(self) -> list[Sample]:
        """Return the samples after the warm-up."""
        return self.samples[int(len(self.samples) * WARM_UP) :]

    def growth_mb(self) -> float:
        """Return by how much memory grew between the first and the last quarter of what follows the warm-up."""
        memory = [sample.memory_mb for sample in self.later()]
        quarter = max(1, len(memory) // 4)
        return statistics.median(memory[-quarter:]) - statistics.median(memory[:quarter])

    def handles(self) -> set[int]:
        """Return the numbers of open files and sockets after the warm-up."""
        return {sample.handles for sample in self.later()}

    def flat(self, most_growth_mb: float = MOST_GROWTH_MB) -> bool:
        """Return whether handles are constant and memory hardly grows."""
        return len(self.handles()) == 1 and self.growth_mb() <= most_growth_mb


class Sampler(NullProgress):
    """Takes a sample at each row of metrics.

    Args:
        memory: returns what is held in MB; by default what is resident.
    """

    def __init__(self, memory: Callable[[], float] | None = None):
        self.samples: list[Sample] = []
        self._process = psutil.Process()
        self._memory = memory or (lambda: self._process.memory_info().rss / 2**20)

    def show(self, row: dict[str, Any], spent: Any = None) -> None:
        """Take a sample."""
        process = self._process
        self.samples.append(
            Sample(row["env_steps"], self._memory(), process.num_fds(), process.num_threads())
        )


def soak_training(steps: int, memory: Callable[[], float] | None = None, **fields: Any) -> Soaked:
    """Train DQN on CartPole for so many steps, with evaluations and checkpoints."""
    settings = {
        "replay_capacity": max(100, steps // 20),
        "hidden": (32, 32),
        "compile": "no",
        "eval_episodes": 4,
    }
    settings |= {"eval_every_steps": max(1, steps // 50), "checkpoint_every_steps": max(1, steps // 50)}
    return _soak(f"dqn, {steps} steps", "dqn", "CartPole-v1", memory, total_steps=steps, **settings | fields)


def soak_evaluations(evaluations: int, memory: Callable[[], float] | None = None) -> Soaked:
    """Evaluate a small table after each of so many steps."""
    settings = {"eval_every_steps": 1, "eval_episodes": 2, "eval_envs": 2, "total_steps": evaluations}
    settings |= {"checkpoint_every_steps": evaluations}
    return _soak(f"{evaluations} evaluations", "q-learning", "FrozenLake-v1", memory, **settings)


def _soak(work: str, agent: str, env_id: str, memory: Callable[[], float] | None, **fields: Any) -> Soaked:
    sampler = Sampler(memory)
    with tempfile.TemporaryDirectory() as folder:
        rl_lab.learn(
            agent, env_id, run_dir=Path(folder, "run"), progress=lambda total, at: sampler, **QUIET | fields
        )
    return Soaked(work, sampler.samples)


def main() -> int:
    """Soak, print what was found, and return 1 if something grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="environment steps of DQN; 0 for none")
    parser.add_argument("--evaluations", type=int, default=10_000, help="evaluations; 0 for none")
    parser.add_argument("--json", type=Path, help="file for the samples and what follows from them")
    options = parser.parse_args()
    found = [soak_training(options.steps)] if options.steps else []
    found += [soak_evaluations(options.evaluations)] if options.evaluations else []
    results = []
    for soaked in found:
        handles = sorted(soaked.handles())
        told = f"memory grew by {soaked.growth_mb():.1f} MB, {' to '.join(map(str, handles))} handles"
        print(f"{soaked.work}: {told}: {'flat' if soaked.flat() else 'NOT flat'}")
        figures = {"growth_mb": soaked.growth_mb(), "handles": handles, "flat": soaked.flat()}
        results.append({"work": soaked.work, **figures, "samples": [asdict(s) for s in soaked.samples]})
    if options.json:
        write_json(options.json, {"results": results})
    return 0 if all(soaked.flat() for soaked in found) else 1


if __name__ == "__main__":
    sys.exit(main())

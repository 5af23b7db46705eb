"""Learn deep sea by several heads with random priors, and by epsilon-greedy actions, and keep what became of it.

Deep sea's treasure is found by one of 2^size action sequences. A run's result is the episode in which the treasure was
first found, how often it was found, and the regret of the final greedy policy.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rl_lab
from rl_lab.checks import at_least
from rl_lab.cli.parsing import main, parse
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file
from rl_lab.storage.versions import versions

SHARED: dict[str, Any] = {
    "gamma": 0.99, "hidden": (20,), "learning_rate": 3e-3, "loss": "squared", "double": True, "batch_size": 128,
    "learning_starts_env_steps": 40, "train_period_env_steps": 4, "target_period_env_steps": 20,
}  # fmt: skip
EXPLORING: dict[str, dict[str, Any]] = {
    "heads": {"heads": 10, "prior_scale": 30.0, "epsilon_initial": 0.0, "epsilon_final": 0.0},
    "epsilon-greedy": {"epsilon_fraction": 0.5, "epsilon_final": 0.05},
}
QUIET: dict[str, Any] = {
    "wandb": "disabled", "video_episodes": 0, "pictures": False, "compile": "no", "eval_episodes": 1, "device": "cpu",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The script's options."""

    out: str = "scripts/results/deep_sea.json"
    """File of the results."""
    size: int = 20
    """Rows and columns of the sea."""
    episodes: int = 2_000
    """Budget in episodes, each of as many steps as the sea has rows."""
    seeds: int = 10
    """Runs of each kind, with one seed after the other."""
    first_seed: int = 200
    """The first of them; by default one of seeds on which nothing was chosen."""

    def __post_init__(self) -> None:
        at_least(self, 2, "size")
        at_least(self, 1, "episodes", "seeds")
        at_least(self, 0, "first_seed")


def explored(kind: str, size: int, episodes: int, seed: int) -> dict[str, Any]:
    """Learn deep sea once; return the first episode with the treasure, how many have it, and the final regret."""
    with tempfile.TemporaryDirectory() as folder:
        result = rl_lab.learn(
            "dqn", "lab/DeepSea-v0", env_kwargs={"size": size}, total_steps=size * episodes, seed=seed,
            run_dir=f"{folder}/run", replay_capacity=size * episodes, **SHARED, **EXPLORING[kind], **QUIET,
        )  # fmt: skip
        assert result.summary is not None
        with (Path(result.run_dir) / "episodes.csv").open(encoding="utf8") as file:
            found = [k for k, row in enumerate(csv.DictReader(file), 1) if float(row["return"]) > 0.5]
    return {
        "kind": kind, "seed": seed, "first_episode": found[0] if found else None, "treasures": len(found),
        "regret": result.summary["regret"], "cpu_seconds": result.summary["cpu_seconds"],
    }  # fmt: skip


def deep_sea(argv: Sequence[str]) -> int:
    """Learn with every seed in both ways and keep the results; return 1 unless heads find the treasure more often.

    Raises:
        UsageError: a wrong option.
    """
    options: Options = parse(Options, argv, program="scripts/deep_sea.py", about=__doc__)
    require_file(options.out, "out")
    runs: list[dict[str, Any]] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for kind in EXPLORING:
            runs.append(explored(kind, options.size, options.episodes, seed))
            print(runs[-1], flush=True)
            write_json(
                options.out,
                {
                    "command": f"python scripts/deep_sea.py --seeds {options.seeds} --first-seed {options.first_seed}"
                    f" --size {options.size} --episodes {options.episodes}",
                    "size": options.size, "episodes": options.episodes,
                    "fields": {kind: SHARED | own for kind, own in EXPLORING.items()}, "runs": runs,
                    "versions": versions(),
                },
            )  # fmt: skip
    found = {kind: sum(run["kind"] == kind and run["treasures"] > 0 for run in runs) for kind in EXPLORING}
    print("; ".join(f"{kind}: {number} of {options.seeds} seeds found it" for kind, number in found.items()))
    return 0 if found["heads"] > found["epsilon-greedy"] else 1


if __name__ == "__main__":
    main(deep_sea)

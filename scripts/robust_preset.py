"""Try whether a preset ends well on seeds and budgets that nothing was tuned on: one run for each pair.

The seeds are 20000, 20001, ... and the budgets are spread evenly over a range. The results are kept as JSON.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rl_lab
from rl_lab.checks import count
from rl_lab.cli.parsing import main, parse
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file
from rl_lab.storage.versions import versions

FIRST_SEED = 20_000


@dataclass(frozen=True)
class Options:
    """The script's options."""

    out: str = "scripts/results/robust_cartpole.json"
    """File of the results."""
    agent: str = "dqn"
    """Agent of the preset."""
    env_id: str = "CartPole-v1"
    """Environment to learn."""
    preset: str = "recommended:CartPole-v1"
    """Preset to try."""
    pairs: int = 100
    """Number of runs, each with a seed and a budget of its own."""
    least_steps: int = 30_000
    """Smallest budget."""
    most_steps: int = 100_000
    """Largest budget."""
    threshold: float = 475.0
    """Mean return of the final evaluation that counts as reached."""


def robust_preset(argv: Sequence[str]) -> int:
    """Run the pairs, print and keep the results; return 1 if fewer than 95 % of them reach the threshold.

    Raises:
        UsageError: a wrong option.
    """
    options: Options = parse(Options, argv, program="scripts/robust_preset.py", about=__doc__)
    require_file(options.out, "out")
    pairs = count("pairs", options.pairs)
    budgets = np.linspace(options.least_steps, options.most_steps, pairs).round().astype(int)
    runs: list[dict[str, Any]] = []
    for i, budget in enumerate(budgets.tolist()):
        runs.append(_run(options, FIRST_SEED + i, budget))
        reached = sum(run["eval_return_mean"] >= options.threshold for run in runs)
        print(f"{runs[-1]}; {reached} of {len(runs)} reach {options.threshold:g}", flush=True)
        write_json(
            options.out,
            {
                "command": "python scripts/robust_preset.py", "preset": options.preset,
                "threshold": options.threshold, "reached": reached, "runs": runs, "versions": versions(),
            },
        )  # fmt: skip
    return 0 if reached >= 0.95 * pairs else 1


def _run(options: Options, seed: int, budget: int) -> dict[str, Any]:
    """Train once; return what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        summary = rl_lab.learn(
            options.agent, options.env_id, preset=options.preset, total_steps=budget, seed=seed,
            run_dir=f"{folder}/run", wandb="disabled", video_episodes=0, pictures=False,
        ).summary  # fmt: skip
    assert summary is not None
    names = ("seed", "total_steps", "env_steps", "selected_env_steps", "eval_return_mean")
    return {name: summary.get(name) for name in names}


if __name__ == "__main__":
    main(robust_preset)

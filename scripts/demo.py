"""Show what the lab does in a few minutes: exact and tabular agents on FrozenLake, DQN beside SB3's on CartPole."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_lab.cli.parsing import main, parse
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.files import replacing
from rl_lab.storage.places import require_folder
from rl_lab.studies.compare import compare_study
from rl_lab.studies.running import Stopped
from rl_lab.studies.study import Study

STUDIES = {
    "frozenlake": Study(
        env_ids=("FrozenLake-v1",),
        agents=("value-iteration", "q-learning"),
        seeds=2,
        fields={"total_steps": 100_000, "eval_episodes": 100},
    ),
    "cartpole": Study(
        env_ids=("CartPole-v1",),
        agents=("dqn", "sb3-dqn"),
        seeds=2,
        preset="zoo:CartPole-v1",  # equal hyperparameters on both sides
    ),
}


@dataclass(frozen=True)
class Options:
    """The script's options."""

    out: str = "runs/demo"
    """Folder for all results; its previous content is removed."""
    workers: int = 2
    """Runs at the same time."""


def demo(argv: Sequence[str]) -> int:
    """Run both studies and print the results and where they are; return the exit code."""
    options: Options = parse(Options, argv, program="scripts/demo.py", about=__doc__)
    out = require_folder(options.out, "out")
    shutil.rmtree(out, ignore_errors=True)
    failures, pages = {}, []
    for name, study in STUDIES.items():
        print(f"== {', '.join(study.agents)} on {', '.join(study.env_ids)}", flush=True)
        try:
            compared = compare_study(study, out / name, workers=options.workers, signals=True)
        except Stopped as stopped:
            print(f"{stopped}; the demo itself would start from the beginning")
            return STOPPED
        failures |= compared.failures
        pages.append(compared.page)
    _print_results(out, pages)
    for name, cause in failures.items():
        print(f"failed: {name}: {cause}", file=sys.stderr)
    return 1 if failures else 0


def _print_results(out: Path, pages: list[Path]) -> None:
    """Print the results, and where the pages, the best agent's video and the W&B runs are."""
    summaries = {
        path.parent: json.loads(path.read_bytes()) for path in sorted(out.glob("*/runs/**/summary.json"))
    }
    for folder, s in summaries.items():
        print(f"{s['agent']:>16} seed {s['seed']} on {s['env_id']}: {_result(s)}   {folder}")
    best = max(
        (f for f in summaries if "cartpole" in f.parts), key=lambda f: summaries[f]["eval_return_mean"]
    )
    with replacing(video := out / "best_agent.mp4") as temporary:
        shutil.copyfile(best / "videos" / "final.mp4", temporary)
    print("comparison pages:", *pages, sep="\n  ")
    print(f"video of the best agent ({summaries[best]['agent']} on CartPole-v1):\n  {video}")
    print(
        "W&B offline runs (upload with `wandb sync`):",
        *sorted(out.glob("*/runs/**/wandb/offline-run-*")),
        *sorted(out.glob("*/wandb/offline-run-*")),
        sep="\n  ",
    )


def _result(summary: dict) -> str:
    parts = [f"mean return {summary['eval_return_mean']:.4g}", f"{summary['train_seconds']:.1f} s"]
    if summary["regret"] is not None:
        parts.append(f"regret {summary['regret']:.4g} to the optimum {summary['optimal_return']:.4g}")
    return ", ".join(parts)


if __name__ == "__main__":
    main(demo)

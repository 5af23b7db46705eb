"""Run directories for the mirror, with rows that tell their numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = {
    "agent": "dqn",
    "env_id": "CartPole-v1",
    "seed": 3,
    "total_steps": 4000,
    "num_envs": 2,
    "group": "study-7",
    "fields": {"learning_rate": 0.001, "hidden": [64, 64], "double": True},
}


def row(i: int) -> dict[str, Any]:
    """Row i of a run; every 10th is an evaluation."""
    if i % 10 == 9:
        return {"env_steps": 100 * i, "eval_return_mean": i / 2, "eval_returns": [i, i + 1.0], "regret": None}
    return {"env_steps": 100 * i, "loss": 1 / (i + 1), "epsilon": 0.5, "return_mean": float(i)}


def make_run_dir(folder: Path, rows: int = 0) -> Path:
    run_dir = folder / "run"
    (run_dir / "videos").mkdir(parents=True)
    (run_dir / "config.json").write_text(json.dumps(CONFIG))
    append_rows(run_dir, range(rows))
    return run_dir


def append_rows(run_dir: Path, numbers: range) -> None:
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row(i)) + "\n" for i in numbers)

"""Run directories for the mirror, with rows that tell their numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from rl_lab.evaluation.video import write_video
from rl_lab.storage.formats import FORMAT
from wandb_reader import OfflineRun

CANARY = "canary0123456789canary0123456789canary01"  # as long as an API key
SUMMARY = {
    "agent": "dqn",
    "env_steps": 4000,
    "eval_returns": [9.0, 10.0],
    "eval_return_mean": 9.5,
    "regret": None,
    "versions": {"numpy": "2"},
}

CONFIG = {
    "format": FORMAT,
    "agent": "dqn",
    "env_id": "CartPole-v1",
    "seed": 3,
    "total_steps": 4000,
    "num_envs": 2,
    "eval_gamma": 0.99,
    "config_sha256": "0" * 64,
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


def moving_video(path: Path) -> None:
    frames = [np.full((200, 200, 3), 20 * i, np.uint8) for i in range(5)]
    write_video(path, frames, fps=5)


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return result


def service_of(mirror_pid: int) -> psutil.Process | None:
    """The wandb-core that a mirror started."""
    for child in psutil.Process(mirror_pid).children():
        with suppress(psutil.NoSuchProcess):  # one that W&B asked something, and that has ended meanwhile
            if child.name() == "wandb-core":
                return child
    return None


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def all_steps(runs: list[OfflineRun]) -> list[int]:
    return [entry["env_steps"] for run in runs for entry in run.history]

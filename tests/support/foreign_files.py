"""Files of runs that a study didn't carry out: what SB3 writes, a CSV of scores, and run directories of the lab."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CARTPOLE = "CartPole-v1"


def monitor_file(
    folder: Path,
    rows: Sequence[tuple[float, float, float]],
    env_id: str | None = CARTPOLE,
    name: str = "monitor.csv",
    start: float = 1000.0,
) -> Path:
    """Write a monitor.csv with rows (return, length, seconds), as SB3's Monitor does."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "#" + json.dumps({"t_start": start, "env_id": env_id})
    lines = [head, "r,l,t", *(f"{r},{length},{t}" for r, length, t in rows)]
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def evaluations_file(folder: Path, steps: Sequence[int], results: Any) -> Path:
    """Write an evaluations.npz, as SB3's EvalCallback does."""
    folder.mkdir(parents=True, exist_ok=True)
    returns = np.asarray(results, dtype=float)
    path = folder / "evaluations.npz"
    np.savez(path, timesteps=np.asarray(steps), results=returns, ep_lengths=np.ones_like(returns, dtype=int))
    return path


def score_file(path: Path, *rows: str, head: str = "agent,env_id,seed,return,env_steps") -> Path:
    """Write a CSV file of scores."""
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def run_folder(folder: Path, kept: Path, summary: dict[str, Any] | None = None, **config: Any) -> Path:
    """Write a run directory on FrozenLake whose config.json is that of a kept run, with changes."""
    folder.mkdir(parents=True)
    stored = json.loads((kept / "config.json").read_text()) | {"env_id": "FrozenLake-v1"} | config
    (folder / "config.json").write_text(json.dumps(stored))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder

"""All that is expected of a run directory of a kept format: hashes of what it holds, down to a replay's columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.runs.fingerprint import _filled, fingerprint
from rl_lab.runs.rows import COLUMNS, read_episodes
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.state_trees import weights_sha256

SUMMARY = ("env_steps", "gradient_steps", "episodes", "eval_returns", "weights_sha256", "config_sha256")
DEPTHS = {"replay": 2, "rollout": 1, "held_out": 1}  # of the parts of "agent" that are hashed one by one


def told(folder: Path) -> dict[str, Any]:
    """Return the hashes of a run directory, and its summary if it is finished."""
    out: dict[str, Any] = {"fingerprint": fingerprint(folder), "agent": parts(folder)}
    if (folder / "summary.json").exists():
        summary = json.loads((folder / "summary.json").read_bytes())
        out["summary"] = {name: summary[name] for name in SUMMARY}
    return out


def parts(folder: Path) -> dict[str, str]:
    """Return SHA-256 of the parts of the last checkpoint's "agent", by path."""
    members = Checkpoints(folder / "checkpoints").load()[1]
    found: dict[str, str] = {}

    def walk(path: str, tree: Any, depth: int) -> None:
        if isinstance(tree, dict) and depth:
            for key, part in tree.items():
                walk(f"{path}/{key}", part, depth - 1)
        else:
            found[path] = weights_sha256(_filled(tree))

    for key, part in members.get("agent", {}).items():
        walk(key, part, DEPTHS.get(key, 0))
    return found


def finished_file(start: Path, name: str) -> Path:
    """Return the path of the numbers that a kept run comes to; see `fixtures/make_finished.py`."""
    return Path(__file__).parents[1] / "fixtures" / "finished" / start.name / f"{name.replace('/', '-')}.npz"


def episode_rows(folder: Path) -> np.ndarray:
    """Return episodes.csv as numbers, float64 [episodes, columns]."""
    rows = [list(row.values()) for row in read_episodes(folder)]
    return np.array(rows, np.float64).reshape(len(rows), -1 if rows else COLUMNS.count(",") + 1)

"""Everything that a run has learned and recorded, as hashes: two runs are equal to the bit if these are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.runs.directory import CHECKPOINTS, SUMMARY
from rl_lab.runs.rows import ACTIONS, EPISODES, read_rows
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.state_trees import StoredRing, weights_sha256

SUMMARISED = ("env_steps", "gradient_steps", "episodes", "eval_returns", "weights_sha256")


def fingerprint(run_dir: str | Path) -> dict[str, str]:
    """Return the SHA-256, by name, of the members of a run's last checkpoint, its row files and its summary.

    Times are left out.

    Raises:
        CheckpointMissing: nothing was saved yet.
        CheckpointCorrupt: no checkpoint is whole.
    """
    folder = Path(run_dir)
    members = Checkpoints(folder / CHECKPOINTS).load()[1]
    members["run"] = {k: members["run"][k] for k in ("returns", "lengths", "episodes", "at")}
    hashes = {name: weights_sha256(_filled(tree)) for name, tree in members.items()}
    for name in (EPISODES, ACTIONS):
        hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    hashes["metrics"] = hashlib.sha256(
        json.dumps(rows_without_times(folder), sort_keys=True).encode()
    ).hexdigest()
    summary = folder / SUMMARY
    if summary.exists():
        found = json.loads(summary.read_bytes())
        text = json.dumps({name: found[name] for name in SUMMARISED})
        hashes["summary"] = hashlib.sha256(text.encode()).hexdigest()
    return hashes


def rows_without_times(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without the times in them."""
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in read_rows(Path(run_dir))]


def _filled(tree: Any) -> Any:
    """Replace stored rings by the arrays that they fill, however they were cut into segments."""
    if isinstance(tree, StoredRing):
        if not tree.segments:  # nothing was stored yet
            return {"written": tree.written}
        first = np.load(tree.segments[0][1], allow_pickle=False)
        array = np.zeros((tree.capacity, *first.shape[1:]), first.dtype)
        tree.copy_into(array)
        return {"written": tree.written, "rows": array}
    if isinstance(tree, dict):
        return {key: _filled(part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_filled(part) for part in tree)
    return tree

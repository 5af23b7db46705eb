"""Helpers for tests of whole runs: short ones, stopping at a step, and what a run leaves as hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import rl_lab
from rl_lab.checkpoint import Checkpoints, StoredRing, weights_sha256
from rl_lab.learning import Result, read_config
from rl_lab.logs import ACTIONS, EPISODES, read_rows
from rl_lab.run import Run

WITHOUT_TORCH = ("q-learning", "random")
QUICK = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 2, "eval_envs": 2}


def learn(folder: Path, agent: str, env_id: str, *, stop_at: int | None = None, **fields: Any) -> Result:
    """Train in `folder` without video and tracking; with `stop_at` the run is asked to stop there."""
    with asking_to_stop(stop_at):
        return rl_lab.learn(agent, env_id, run_dir=str(folder), **(QUICK | fields))


@contextmanager
def asking_to_stop(at: int | None) -> Iterator[None]:
    """Ask every run to stop once it has taken `at` environment steps, as a signal would."""
    original = Run.due

    def due(self: Run, env_steps: int) -> bool:
        if at is not None and env_steps >= at:
            self.stop_requested = True
        return original(self, env_steps)

    Run.due = due  # type: ignore[method-assign]
    try:
        yield
    finally:
        Run.due = original  # type: ignore[method-assign]


def rows_without_times(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without what a clock has measured."""
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in read_rows(folder)]


def fingerprint(folder: Path) -> dict[str, str]:
    """Hash all that a run has learned, holds and recorded, by name; what a clock has measured is left out."""
    members = Checkpoints(folder / "checkpoints").load()[1]
    config, run = read_config(folder), members.pop("run")
    if config["agent"] in WITHOUT_TORCH:  # what torch's generator is depends on whether torch is loaded
        members["streams"].pop("torch")
    members["run"] = {k: run[k] for k in ("returns", "lengths", "episodes", "at")}
    rows = config["fields"].get("replay_capacity", 0) // config["num_envs"]
    hashes = {name: weights_sha256(_plain(tree, rows)) for name, tree in members.items()}
    for name in (EPISODES, ACTIONS):
        hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    hashes["rows"] = hashlib.sha256(
        json.dumps(rows_without_times(folder), sort_keys=True).encode()
    ).hexdigest()
    summary = folder / "summary.json"
    if summary.exists():
        found = json.loads(summary.read_bytes())
        names = ("env_steps", "gradient_steps", "episodes", "eval_returns", "weights_sha256")
        hashes["summary"] = json.dumps({name: found[name] for name in names})
    return hashes


def _plain(tree: Any, rows: int) -> Any:
    """Turn stored rings into the arrays that they fill: how they were cut into segments doesn't count."""
    if isinstance(tree, StoredRing):
        first = np.load(tree.segments[0][1], allow_pickle=False)
        array = np.zeros((rows, *first.shape[1:]), first.dtype)
        tree.copy_into(array)
        return {"written": tree.written, "rows": array}
    if isinstance(tree, dict):
        return {key: _plain(part, rows) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_plain(part, rows) for part in tree)
    return tree


def differences(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Return the names under which two fingerprints differ."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}

"""Run directories: making one, keeping those that hold a run, and the files of a run under way."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import CONFIG
from rl_lab.runs.rows import EPISODES, METRICS, RowFiles, read_rows
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointMissing
from rl_lab.storage.files import write_json
from rl_lab.storage.formats import Migrations
from rl_lab.storage.locking import LOCK
from rl_lab.storage.places import require_folder
from rl_lab.types import UsageError

CHECKPOINTS, SUMMARY = "checkpoints", "summary.json"
OF_A_RUN = (CONFIG, METRICS, EPISODES, "actions", CHECKPOINTS, SUMMARY)
STUDY = "study.json"  # of a comparison, whose runs lie in folders below


class RunDirectory:
    """The files that a run writes while it is under way; `close` them when it ends.

    Args:
        keep_last: newest checkpoints that are kept.
        keep_best: checkpoints with the best evaluations that are kept too.
    """

    def __init__(self, folder: Path, keep_last: int, keep_best: int):
        self.folder = folder
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep_last, keep_best)
        self.rows = RowFiles(folder)
        self._keeps_best = keep_best > 0

    def load(self, migrations: Migrations) -> dict[str, Any] | None:
        """Return the members of the last whole checkpoint; None if the run was killed before its first.

        Raises:
            CheckpointCorrupt: there are checkpoints, but none is whole.
            FormatTooNew: a newer version wrote it.
        """
        self._sweep_temporaries()
        try:
            members = self.checkpoints.load(migrations=migrations)[1]
        except CheckpointMissing:
            members = None
        self.checkpoints.sweep_segments()
        return members

    def _sweep_temporaries(self) -> None:
        """Remove the temporary files that a killed run left."""
        self.checkpoints.sweep_temporaries()
        for path in (*self.folder.glob(".*.tmp"), *(self.folder / "pictures").glob(".*.tmp")):
            path.unlink(missing_ok=True)
        videos = self.folder / "videos"
        for pattern in (".final.mp4.*.tmp", ".step-*.mp4.*.tmp"):  # others film there too
            for path in videos.glob(pattern):
                path.unlink(missing_ok=True)

    def is_best(self, score: float | None) -> bool:
        """Say whether a checkpoint with this score would be kept as the best of all so far."""
        if score is None or not self._keeps_best:
            return False
        best = self.checkpoints.best_score()
        return best is None or score > best

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json: the run is finished.

        Raises:
            NotWritten: the file system refused.
        """
        write_json(self.folder / SUMMARY, summary)

    def close(self) -> None:
        """Close the files, once what is being written in the background is on the disk."""
        self.checkpoints.close()
        self.rows.close()


def film_name(env_steps: int) -> str:
    """Return the name, in videos/, of the film of the policy that learning had reached at a step."""
    return f"step-{env_steps:012d}.mp4"


def require_run_folder(config: RunConfig) -> None:
    """Check that a run's folder, or the one that it will be made in, can be written into and holds no study.

    Raises:
        UsageError: it can't, or does.
    """
    folder = require_folder("runs" if config.run_dir is None else config.run_dir, "run_dir")
    if (folder / STUDY).exists():
        raise UsageError(f"run_dir {str(folder)!r} already holds a study ({STUDY}; allowed: an empty folder)")


def make_run_folder(config: RunConfig, agent: str) -> Path:
    """Make the folder of a run, by default runs/<env>-<agent>-seed<seed>-<time>, and return it.

    A default folder is new: if another run has the name already, -2, -3, ... is appended. In a sweep the id of the W&B
    run is part of the name.

    Raises:
        UsageError: the file system refused.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = f"{config.env_id.replace('/', '_').replace(':', '_')}-{agent}-seed{config.seed}-{stamp}"
    if "WANDB_SWEEP_ID" in os.environ and (run_id := os.environ.get("WANDB_RUN_ID")):
        name = f"{name}-{run_id}"
    folder = Path("runs", name) if config.run_dir is None else Path(config.run_dir)
    try:
        if config.run_dir is None:
            return _make_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"run_dir {str(folder)!r} can't be made: {error.strerror}") from error
    return folder


def _make_new(folder: Path) -> Path:
    """Make a folder that wasn't there, of this name or with the first free number; return it.

    Raises:
        OSError: the file system refused.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        made = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with suppress(FileExistsError):
            made.mkdir()  # fails if another process was faster
            return made
    raise AssertionError


def require_no_run(folder: Path) -> None:
    """Check that a folder holds no run, nor what is left of one.

    Raises:
        UsageError: it does.
    """
    if (found := of_a_run(folder)) is not None:
        raise UsageError(
            f"run_dir {str(folder)!r} already holds a run ({found}; allowed: an empty folder, or --resume)"
        )


def of_a_run(folder: Path) -> str | None:
    """Return the name of a file or folder of a run that lies in a folder; None if there is none."""
    return next((name for name in OF_A_RUN if (folder / name).exists()), None)


def remove_failed_start(folder: Path) -> None:
    """Remove what a run wrote that failed before its first row or checkpoint, so that the folder can be used again.

    The lock goes with it, though this process still holds it: nothing is written after it.
    """
    if Checkpoints(folder / CHECKPOINTS).manifests() or read_rows(folder):
        return
    for path in (folder / name for name in (*OF_A_RUN, LOCK)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a finished run; None if it isn't finished."""
    path = folder / SUMMARY
    return json.loads(path.read_bytes()) if path.exists() else None

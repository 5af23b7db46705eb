"""The process that does one run of a study; `python -m rl_lab.studies.worker WORK` with JSON from the study."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.locking import exclusive
from rl_lab.studies.reports import Reports
from rl_lab.studies.running import steps_of
from rl_lab.training.launch import CannotResume, Result, learn, resume

KEPT = ("log.txt", "log.txt.1", ".lock")  # while a run starts again


def _work(agent: str, fields: dict[str, Any], pipe: int | None = None) -> int:
    """Do one run: resume one that was stopped, or start again if resuming wouldn't be exact; return the exit code.

    Args:
        pipe: file descriptor that takes reports on the progress; None for no reports.
    """
    progress = False if pipe is None else partial(Reports, pipe)
    folder = Path(fields["run_dir"])
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_NAME"):  # of one run
        os.environ.pop(name, None)
    try:
        result = _resumed(folder, fields, progress) if (folder / CONFIG).exists() else None
    except CannotResume:
        result = None
    if result is None:
        _clear(folder)
        result = learn(agent, progress=progress, signals=True, **fields)
    return STOPPED if result.summary is None else 0


def _resumed(folder: Path, fields: dict[str, Any], progress: Any) -> Result:
    """Go on with a run, which gets a larger budget if its study has one now."""
    return resume(folder, total_steps=steps_of(fields), progress=progress, signals=True)


def _clear(folder: Path) -> None:
    """Remove the remains of a run that starts again."""
    with exclusive(folder):
        for path in list(folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in KEPT:
                path.unlink()


def _end_with_study() -> None:
    """End this process at once when stdin closes, which it does when the process that started it is gone."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _end_with_study()
    try:
        code = _work(**json.loads(sys.argv[1]))
    except Exception as error:
        error.__notes__ = []  # how to resume by hand: the study does that, and takes the last line for the cause
        raise
    sys.exit(code)

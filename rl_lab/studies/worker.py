"""The process that does one run of a study, or several that learn together.

`python -m rl_lab.studies.worker WORK` with JSON from the study, or with a - and the JSON as a line of its stdin.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.files import write_atomically
from rl_lab.storage.locking import LOCK, exclusive
from rl_lab.studies.reports import Reports
from rl_lab.studies.results import ERROR
from rl_lab.studies.running import NAMED_OURS, steps_of
from rl_lab.training.launch import CannotResume, Result, learn, learn_together, resume

KEPT = ("log.txt", "log.txt.1", LOCK)  # while a run starts again


def _work(agent: str, fields: dict[str, Any], pipe: int | None = None, progress: Any = None) -> int:
    """Do one run: resume one that was stopped, or start again if resuming wouldn't be exact; return the exit code.

    Args:
        pipe: file descriptor that takes reports on the progress; None for no reports.
        progress: makes another display.
    """
    if progress is None:
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
        result = learn(agent, progress=progress, signals=True, base=fields)
    return STOPPED if result.summary is None else 0


def _work_batch(
    agent: str, fields: dict[str, Any], batch: list[dict[str, Any]], pipe: int | None = None
) -> int:
    """Do runs that learn together; those that were stopped before are resumed, each alone.

    Why a run failed is written into its folder; the others go on.

    Args:
        fields: that the runs share.
        batch: the seed and run_dir of each.
        pipe: file descriptor that takes reports on the progress; None for no reports.

    Returns:
        The exit code.
    """
    runs = [fields | own for own in batch]
    fresh = [run for run in runs if not (Path(run["run_dir"]) / CONFIG).exists()]

    def progress_of(number: int) -> Any:
        return False if pipe is None else partial(Reports, pipe, run=number)

    for number, run in enumerate(runs):
        if run in fresh:
            continue
        try:
            if _work(agent, run, progress=progress_of(number)) == STOPPED:
                return STOPPED
        except Exception as error:
            _tell_failure(run, error)
    for run in list(fresh):
        try:
            _clear(Path(run["run_dir"]))
        except Exception as error:
            fresh.remove(run)
            _tell_failure(run, error)
    results = learn_together(
        agent, fresh, progress=[progress_of(runs.index(run)) for run in fresh], signals=True, failed=_tell_failure
    )  # fmt: skip
    return STOPPED if any(result.summary is None for result in results) else 0


def _tell_failure(run: Mapping[str, Any], error: Exception) -> None:
    """Write down why a run failed, as the last line of a traceback says it."""
    error.__notes__ = []
    line = NAMED_OURS.sub("", traceback.format_exception_only(error)[-1].strip())
    print(line, file=sys.stderr, flush=True)
    write_atomically(Path(run["run_dir"]) / ERROR, line.encode())


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
    text = sys.argv[1] if sys.argv[1] != "-" else sys.stdin.buffer.readline()
    _end_with_study()
    try:
        work = json.loads(text)
        code = _work_batch(**work) if "batch" in work else _work(**work)
    except Exception as error:
        error.__notes__ = []  # how to resume by hand: the study does that, and takes the last line for the cause
        raise
    sys.exit(code)

"""Sends the results and the page of a study to Weights & Biases, from a process of its own, as its runs were.

Whatever happens to W&B costs a study no more than one line.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from rl_lab.runs.tracking import CLOSE_SECONDS, MISHAP, mirror_environment
from rl_lab.studies.results import StudyResults, load_study

LOG = "page.log"  # in OUT/wandb


def publish(study_dir: Path, timeout_seconds: float = CLOSE_SECONDS) -> str | None:
    """Send a study's tables and its page to W&B in the mode of its runs; return why that failed (one line), or None.

    Nothing is sent where no run of the study goes to W&B. What can't go online goes offline.

    Args:
        timeout_seconds: how long it may take; twice as long if it goes offline after it failed online.
    """
    config = published_config(load_study(study_dir))
    if config is None:
        return None
    cause = _send(study_dir, config["wandb"], timeout_seconds)
    if cause is None or config["wandb"] == "offline":
        return cause
    again = _send(study_dir, "offline", timeout_seconds)
    return f"{cause} ({'written offline instead' if again is None else again})"


def published_config(study: StudyResults) -> dict[str, Any] | None:
    """Return the config of the first finished run that goes to W&B; None without one."""
    runs = (run for env_id in study.env_ids for run in study.of_env(env_id))
    return next(
        (dict(r.config) for r in runs if r.done and r.config.get("wandb") in ("offline", "online")), None
    )


def _send(study_dir: Path, mode: str, timeout_seconds: float) -> str | None:
    """Start the process that sends, and wait for it; return why it failed, or None."""
    folder = study_dir.absolute() / "wandb"
    try:
        folder.mkdir(exist_ok=True)
        with open(folder / LOG, "wb") as log:
            done = subprocess.run(
                command(study_dir, mode),
                env=mirror_environment(study_dir.absolute(), mode),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                start_new_session=True,
                check=False,
            )
        return None if done.returncode == 0 else _mishap(folder / LOG, done.returncode)
    except subprocess.TimeoutExpired:
        return f"not done after {timeout_seconds:g} s"
    except OSError as error:
        return error.strerror or str(error)


def command(study_dir: Path, mode: str) -> list[str]:
    """Return the command of the process that sends."""
    return [sys.executable, "-P", "-m", "rl_lab.studies.wandb_page", str(study_dir.absolute()), mode]


def _mishap(log: Path, code: int) -> str:
    lines = log.read_text(errors="replace").splitlines()
    reasons = [line.removeprefix(MISHAP) for line in lines if line.startswith(MISHAP)]
    return reasons[-1] if reasons else f"the process ended with {code}"

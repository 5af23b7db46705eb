"""Diagnoses a run of each agent on each environment, for the page of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rl_lab.diagnosis.files import NAME, write_diagnosis
from rl_lab.runs.directory import SUMMARY
from rl_lab.storage.errors import CheckpointError
from rl_lab.studies.results import RunResults, load_study, read_object
from rl_lab.types import EnvironmentFault, UsageError


def diagnose_runs(out: Path, tell: Callable[[str], None]) -> None:
    """Diagnose the first finished run of each agent on each environment, unless that has been done; tell what can't be.

    Args:
        out: the study's directory.
    """
    study = load_study(out)
    for runs in study.runs.values():
        run = next((run for run in runs if run.done), None)
        if run is None or _is_diagnosed(run):
            continue
        name = f"{run.env_id} {run.agent} seed {run.seed}"
        tell(f"{name}: diagnosing")
        if (why := _diagnose(run)) is not None:
            tell(f"{name}: not diagnosed: {why}")


def _is_diagnosed(run: RunResults) -> bool:
    """Return whether a run has a whole diagnosis of what it ended with; one that was extended has an older one."""
    there = run.directory / NAME
    return (
        run.done
        and read_object(there) is not None
        and there.stat().st_mtime_ns >= (run.directory / SUMMARY).stat().st_mtime_ns
    )


def _diagnose(run: RunResults) -> str | None:
    """Write a diagnosis into a run's directory; return why it couldn't be made, in one line."""
    from rl_lab.diagnosis.diagnose import diagnose

    try:
        write_diagnosis(diagnose(run.directory), run.directory)
    except (UsageError, CheckpointError, EnvironmentFault) as error:
        return str(error)
    except Exception as error:  # the runs are done, and the page is still to be written
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None

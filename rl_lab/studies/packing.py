"""Packs what a study needs of its finished runs to be continued in another place: no weights, episodes or films."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.runs.description import CONFIG
from rl_lab.runs.directory import STUDY, SUMMARY
from rl_lab.runs.rows import METRICS
from rl_lab.studies.decision import DECISION
from rl_lab.studies.results import SECONDS, RunResults, load_study

PACKED = "runs.tar.xz"


def pack_runs(study_dir: str | Path) -> bytes:
    """Return what a study has decided and, of each finished run, its config, summary and evaluations, as a .tar.xz.

    Unpacked into an empty folder, it is the study as far as it got: the same call goes on with the runs that it lacks.
    Equal runs give equal bytes.

    Raises:
        UsageError: the directory holds no study.
        FormatTooNew: a newer version wrote it.
    """
    study = load_study(Path(study_dir))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in (STUDY, DECISION):  # the latter where seeds are added until it is decided
            if (study.directory / name).is_file():
                _add(archive, name, (study.directory / name).read_bytes())
        for cell in study.runs.values():
            for run in cell:
                for name, data in _files_of(run):
                    _add(archive, str((run.directory / name).relative_to(study.directory)), data)
    return lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME)


def _files_of(run: RunResults) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files that are kept of a run; none if it didn't finish."""
    if not run.done:
        return
    yield METRICS, "".join(f"{json.dumps(row)}\n" for row in _evaluations(run)).encode()
    for name in (CONFIG, SUMMARY):
        if (run.directory / name).is_file():
            yield name, (run.directory / name).read_bytes()


def _evaluations(run: RunResults) -> Iterator[dict[str, Any]]:
    """Yield the rows with an evaluation, each with the seconds of training by then, which other rows tell."""
    for row in run.rows:
        seconds = run.seconds_at(np.array([row["env_steps"]]))
        yield dict(row) if seconds is None else {SECONDS: float(seconds[0]), **row}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file that tells neither its time nor its owner."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))

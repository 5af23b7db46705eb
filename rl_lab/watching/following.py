"""Follows a run that may still be training: its curves, and the policy of its newest checkpoint.

It reads what was appended to metrics.jsonl and looks at the names of checkpoints, once in a while, so that the training
process has no part in it and loses nothing but what the reading takes. Of checkpoints that come soon after one another
the newest is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rl_lab.agent import Policy
from rl_lab.runs.directory import CHECKPOINTS, SUMMARY
from rl_lab.runs.rows import METRICS, is_number, parse_row
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.types import UsageError

SECONDS = 2.0  # between two looks
LOAD_SECONDS = 10.0  # between two attempts to load a policy
QUIET_SECONDS = 600.0  # after its last row a run that hasn't ended doesn't count as one that trains
POINTS = 400  # of a curve at most: beyond, every second is dropped
CURVES = {"training": "episode_return_mean", "evaluation": "eval_return_mean"}
READ_BYTES = 2**22  # of rows at one look
TAIL_BYTES = 256  # of the last rows, by which it is noticed that a resume has cut them back


class Curve:
    """A curve of limited length: of its points those on an ever coarser lattice are kept, and the newest."""

    def __init__(self, most: int = POINTS):
        self._most, self._every, self._count = most, 1, 0
        self._points: list[tuple[float, float]] = []
        self._newest: tuple[float, float] | None = None

    def add(self, x: float, y: float) -> None:
        """Append a point."""
        self._newest = (x, y)
        if self._count % self._every == 0:
            self._points.append((x, y))
            if len(self._points) > self._most:
                self._points, self._every = self._points[::2], self._every * 2
        self._count += 1

    def points(self) -> list[tuple[float, float]]:
        """Return what is kept, in order."""
        ends = self._newest is None or (self._points and self._points[-1] == self._newest)
        return [*self._points] if ends or self._newest is None else [*self._points, self._newest]


def is_training(folder: Path) -> bool:
    """Return whether a run seems to train now: it hasn't ended, and its rows have grown of late."""
    try:
        rows = (folder / METRICS).stat().st_mtime
    except OSError:
        return False
    return not (folder / SUMMARY).exists() and time.time() - rows < QUIET_SECONDS


class Following:
    """What is new in a run directory since the last look.

    Args:
        load: returns the policy of the newest checkpoint, and the checkpoint's environment step.
        seconds: between two looks.
        load_seconds: between two attempts to load a policy.
    """

    def __init__(
        self,
        folder: Path,
        load: Callable[[], tuple[Policy, int]],
        *,
        seconds: float = SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ):
        self.folder, self._load = Path(folder), load
        self._seconds, self._load_seconds = seconds, load_seconds
        self._read = 0  # bytes of metrics.jsonl
        self._rest = self._tail = b""
        self._curves = {name: Curve() for name in CURVES}
        self._seen: tuple[str, int] | None = None
        self._seen = self._newest()
        self._looked = self._loaded = -1e9
        self.env_steps = 0  # of the last row
        self.checkpoint = 0  # environment steps of the last one that was loaded

    def _newest(self) -> tuple[str, int] | None:
        """Return the name and time of the newest checkpoint."""
        try:
            manifests = Checkpoints(self.folder / CHECKPOINTS).manifests()
            return (manifests[-1].name, manifests[-1].stat().st_mtime_ns) if manifests else None
        except FileNotFoundError:  # the run has just swept one away
            return self._seen

    def is_due(self) -> bool:
        """Return whether it is time for a look."""
        return time.monotonic() - self._looked >= self._seconds

    def look(self) -> tuple[dict[str, Any] | None, Policy | None]:
        """Return the curves if they grew, as a notice for the page, and the policy if there is a newer one."""
        self._looked = time.monotonic()
        notice = self._notice() if self._read_rows() else None
        newest, policy = self._newest(), None
        if newest != self._seen and self._looked - self._loaded >= self._load_seconds:
            self._loaded = self._looked  # a failed attempt counts, too
            # It may be half written or being swept away: a later look finds it, or a newer one.
            with suppress(UsageError, CheckpointCorrupt, OSError):
                policy, self.checkpoint = self._load()
                self._seen = newest
        return notice, policy

    def _read_rows(self) -> bool:
        """Read rows that were appended; return whether there were any.

        After a resume has cut rows back, all are read again; also if the file has since grown longer than it was.
        """
        try:
            with (self.folder / METRICS).open("rb") as file:
                file.seek(self._read - len(self._tail))
                if file.read(len(self._tail)) != self._tail:
                    self._forget_rows()
                    file.seek(0)
                data = file.read(READ_BYTES)
        except OSError:
            return False
        self._read += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._add(line)
        return bool(lines)

    def _forget_rows(self) -> None:
        self._read, self._rest, self._tail, self.env_steps = 0, b"", b"", 0
        self._curves = {name: Curve() for name in CURVES}

    def _add(self, line: bytes) -> None:
        row = parse_row(line)
        if row is None:
            return
        self.env_steps = int(row["env_steps"])
        for name, key in CURVES.items():
            if is_number(row.get(key)):
                self._curves[name].add(float(row["env_steps"]), float(row[key]))

    def _notice(self) -> dict[str, Any]:
        curves = {name: curve.points() for name, curve in self._curves.items()}
        return {"type": "curves", "env_steps": self.env_steps, "curves": curves}

"""The row files of a run, metrics.jsonl, episodes.csv and actions/: appended to, and cut back on resume."""

from __future__ import annotations

import csv
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rl_lab.environments.actions import action_shape, stored_dtype
from rl_lab.environments.episodes import Episode
from rl_lab.storage.errors import CheckpointCorrupt, NotWritten
from rl_lab.storage.files import reason_of
from rl_lab.types import UsageError

METRICS, EPISODES, ACTIONS = "metrics.jsonl", "episodes.csv", "actions/actions.bin"
COLUMNS = "env_steps,env_index,episode,seed,return,length,terminated,truncated"


class RowFiles:
    """Appends to the row files; `positions` tells their lengths, `cut_back` makes them that long again."""

    def __init__(self, folder: Path):
        self._files: dict[str, BinaryIO] = {}
        for name in (METRICS, EPISODES, ACTIONS):
            path = folder / name
            with _as_not_written(name):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._files[name] = path.open("ab")
        self._head()

    def _head(self) -> None:
        if self._files[EPISODES].tell() == 0:
            self._files[EPISODES].write(COLUMNS.encode() + b"\n")

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append one row of metrics, flush all files, and return the row as it stands there.

        Raises:
            NotWritten: the file system refused.
        """
        row = {name: _finite(value) for name, value in values.items()}
        with _as_not_written(METRICS):
            self._files[METRICS].write(json.dumps(row).encode() + b"\n")
        self.flush()
        return row

    def episode(self, e: Episode) -> None:
        """Append one episode and its actions; actions are in the order of the rows.

        Raises:
            NotWritten: the file system refused.
        """
        row = f"{e.env_steps},{e.env_index},{e.episode},{e.seed},{e.return_!r},{e.length}"
        with _as_not_written(EPISODES):
            self._files[EPISODES].write(f"{row},{int(e.terminated)},{int(e.truncated)}\n".encode())
        with _as_not_written(ACTIONS):
            self._files[ACTIONS].write(e.actions.tobytes())

    def flush(self) -> None:
        """Hand everything written to the operating system, the actions before the episodes that list them.

        Raises:
            NotWritten: it refused (the disk is full, say).
        """
        for name in (METRICS, ACTIONS, EPISODES):
            with _as_not_written(name):
                self._files[name].flush()

    def positions(self) -> dict[str, int]:
        """Return the length of each file in bytes; so much of it is on the disk, even after a power cut."""
        self.flush()
        for name, file in self._files.items():
            with _as_not_written(name):
                os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def cut_back(self, positions: Mapping[str, int]) -> None:
        """Drop what was written after a checkpoint, so that nothing is there twice; {} drops everything.

        Raises:
            CheckpointCorrupt: a file is shorter than it was at the checkpoint.
        """
        for name, file in self._files.items():
            length, position = file.seek(0, os.SEEK_END), positions.get(name, 0)
            if not isinstance(position, int) or not 0 <= position <= length:
                raise CheckpointCorrupt(f"{file.name} has {length} bytes, {position} at the last checkpoint")
            file.truncate(position)
            file.seek(position)
        self._head()

    def close(self) -> None:
        """Close the files; a full disk was reported when they were flushed."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()


@contextmanager
def _as_not_written(name: str) -> Iterator[None]:
    """Turn an OSError into NotWritten with one line."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"{name} could not be written: {reason_of(error)}") from error


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: numbers and arrays of numpy as Python's, None for nan and infinity."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of metrics.jsonl without a half-written last line.

    Lines that are no rows, as a power cut or an editor may leave, are passed over with a warning.
    """
    path = Path(folder) / METRICS
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = [row for line in lines if (row := parse_row(line)) is not None]
    if len(rows) < len(lines):
        warnings.warn(
            f"{path}: {len(lines) - len(rows)} lines that are no rows were passed over", stacklevel=2
        )
    return rows


def parse_row(line: bytes | str) -> dict[str, Any] | None:
    """Return the row that a line of metrics.jsonl holds; None if it is no JSON object with a number of env_steps."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and is_number(row.get("env_steps")) else None


def is_number(value: Any) -> bool:
    """Say whether a value of a row is a number that can be drawn: finite, and within the range of floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def read_episodes(folder: Path) -> list[dict[str, float]]:
    """Return the rows of episodes.csv as numbers, without a half-written last line."""
    lines = (Path(folder) / EPISODES).read_text().split("\n")[:-1]
    return [
        {k: float(v) if k == "return" else int(v) for k, v in row.items()} for row in csv.DictReader(lines)
    ]


def read_actions(folder: Path, row: int, action_space: Any) -> np.ndarray:
    """Return the actions [length, ...] of the episode in row `row` (from 0) of episodes.csv.

    Raises:
        UsageError: there is no such row, or its actions aren't written yet, as may be while the run trains.
    """
    episodes = read_episodes(folder)
    if not 0 <= row < len(episodes):
        raise UsageError(f"training episode {row} is not in {folder} (allowed: 0 to {len(episodes) - 1})")
    dtype, shape = stored_dtype(action_space), action_shape(action_space)
    item = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    before = sum(int(e["length"]) for e in episodes[:row])
    length = int(episodes[row]["length"])
    with (Path(folder) / ACTIONS).open("rb") as file:
        file.seek(before * item)
        data = file.read(length * item)
    if len(data) < length * item:
        raise UsageError(
            f"training episode {row} of {folder} can't be played yet: {ACTIONS} ends before its actions do"
            " (allowed: an earlier one, or this one later)"
        )
    return np.frombuffer(data, dtype=dtype).reshape(length, *shape)


def split_actions(
    folder: Path, episodes: Sequence[Mapping[str, float]], action_space: Any
) -> Iterator[np.ndarray]:
    """Yield the actions [length, ...] of the first rows of episodes.csv, one after the other.

    Args:
        episodes: these rows, as `read_episodes` returns them.

    Raises:
        CheckpointCorrupt: there are fewer actions than the rows say.
    """
    dtype, shape = stored_dtype(action_space), action_shape(action_space)
    item = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    with (Path(folder) / ACTIONS).open("rb") as file:
        for episode in episodes:
            length = int(episode["length"])
            data = file.read(length * item)
            if len(data) < length * item:
                raise CheckpointCorrupt(f"{Path(folder) / ACTIONS} ends before the actions of {EPISODES} do")
            yield np.frombuffer(data, dtype=dtype).reshape(length, *shape)

"""Immutable files named by the SHA-256 of their bytes, and what they hold of ring buffers.

A ring buffer of images is too large to be written at a checkpoint. So its rows are written ahead, in the background
while the agent learns: a checkpoint finds most of them on the disk, and writes the rest. Rows that were written ahead
belong to no checkpoint until a manifest lists them; after a kill they are removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.files import Bytes, npy_parts, sha256, size_of, write_atomically
from rl_lab.storage.state_trees import Ring

SEGMENT_BYTES = 2**26  # at most, of a segment of a ring
AHEAD_BYTES = 2**24  # of new rows, all rings together, are written before their checkpoint comes
MOST_AHEAD = 4  # times as much is copied at once, where more is new: a replay in an older format, say
LEAST_BYTES = 2**18  # fewer new bytes of a ring wait for the checkpoint, which saves files
WRITERS = 8  # threads, since most of the time goes into waiting for the disk

Segment = dict[str, Any]  # "file", "sha256" and "bytes"; of a ring also "start" and "stop", numbers of rows


class Segments:
    """The files of one folder, which it makes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def make_folder(self) -> None:
        """Make the folder, unless it is there. Raises OSError if the file system refuses."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def names(self) -> set[str]:
        """Return the names of the files in the folder."""
        if not self.folder.is_dir():
            return set()
        with os.scandir(self.folder) as entries:  # which asks for no file's status
            return {entry.name for entry in entries if entry.is_file()}

    def write(self, suffix: str, *data: Bytes) -> Segment:
        """Write a file, unless it is there and whole; return what a manifest says of it.

        Raises:
            NotWritten: the file system refused.
        """
        sha = sha256(*data)
        path = self.folder / (sha + suffix)
        if not path.exists() or sha256(path.read_bytes()) != sha:  # shared, unless it is damaged
            write_atomically(path, *data)
        return {"file": path.name, "sha256": sha, "bytes": size_of(*data)}


class _Piece(NamedTuple):
    """Successive rows of a ring that go into one segment."""

    path: str
    start: int  # number of the first row of all rows ever written
    rows: np.ndarray  # [R, ...]

    def write(self, segments: Segments) -> Segment:
        return {"start": self.start, "stop": self.start + len(self.rows)} | segments.write(
            ".npy", *npy_parts(self.rows)
        )


class RingSegments:
    """Knows which rows of the rings of a run are on the disk, and writes the others.

    Rings are named by their paths in a checkpoint.
    """

    def __init__(self, segments: Segments):
        self._segments = segments
        self._on_disk: dict[str, list[Segment]] = {}  # by path, successive rows
        self._ahead: set[str] = set()  # files written since the last checkpoint
        self._refused = False  # whether the file system has refused to write ahead since the last checkpoint
        self._writing: tuple[list[_Piece], ThreadPoolExecutor, Future[list[Segment]]] | None = None

    def found(self, on_disk: Mapping[str, list[Segment]]) -> None:
        """Take note of the segments of rings that were loaded."""
        self.finish()
        self._on_disk |= on_disk

    def files(self) -> set[str]:
        """Return the names of the files that hold rows which no newer ones have overwritten yet."""
        return {segment["file"] for segments in self._on_disk.values() for segment in segments}

    def write(self, rings: Mapping[str, Ring]) -> dict[str, dict[str, Any]]:
        """Write the rows that no segment holds yet; return what a manifest says of each ring.

        Raises:
            NotWritten: the file system refused.
        """
        self.finish()
        self._forget_overwritten(rings)
        pieces = [piece for path, ring in rings.items() for piece in self._new_pieces(path, ring)]
        self._add(pieces, _write_all(pieces, self._segments))
        return {
            path: {"written": ring.written, "capacity": ring.capacity, "segments": self._on_disk[path]}
            for path, ring in rings.items()
        }

    def saved(self, paths: set[str]) -> None:
        """Take note that a manifest lists the segments of these rings, and that there are no others."""
        self._on_disk = {path: self._on_disk[path] for path in paths}
        self._ahead.clear()
        self._refused = False

    def overwritten(self, rings: Mapping[str, Ring]) -> set[str]:
        """Return, once, the files written ahead whose rows were overwritten before any checkpoint listed them."""
        self.finish()
        self._forget_overwritten(rings)
        gone = self._ahead - self.files()
        self._ahead -= gone
        return gone

    def write_ahead(self, rings: Mapping[str, Ring], env_steps: int) -> int:
        """Start to write new rows in the background, if they are many; the rings may change at once.

        Once something can't be written, everything is left to the next checkpoint, which says what is wrong.

        Args:
            env_steps: after which there are these rings, at least 1.

        Returns:
            The number of environment steps after which it is worth being called again.
        """
        self.finish()
        self._forget_overwritten(rings)
        new = {
            path: _row_bytes(ring) * (ring.written - self._next(path, ring)) for path, ring in rings.items()
        }
        gathered, limit = sum(new.values()), max(AHEAD_BYTES, LEAST_BYTES * len(rings))
        if gathered >= limit and not self._refused:
            large = [path for path, size in new.items() if size >= LEAST_BYTES]
            pieces = (piece for path in large for piece in self._new_pieces(path, rings[path]))
            gathered -= self._write_in_background(pieces, MOST_AHEAD * limit)
        wanted = limit - gathered if gathered < limit else limit
        bytes_per_step = sum(ring.written * _row_bytes(ring) for ring in rings.values()) / env_steps
        return max(1, ceil(wanted / bytes_per_step)) if bytes_per_step else env_steps

    def _write_in_background(self, pieces: Iterator[_Piece], most: int) -> int:
        """Start to write copies of the pieces, of no more once `most` bytes are copied; return how many are."""
        copies, copied = [], 0
        while copied < most and (piece := next(pieces, None)) is not None:
            copies.append(piece._replace(rows=np.array(piece.rows, order="C")))
            copied += piece.rows.nbytes
        thread = ThreadPoolExecutor(1, "rl_lab-segments")
        self._writing = copies, thread, thread.submit(_write_all, copies, self._segments)
        return copied

    def finish(self) -> None:
        """Wait for what is being written in the background."""
        if self._writing is None:
            return
        (pieces, thread, future), self._writing = self._writing, None
        thread.shutdown()
        try:
            segments = future.result()
        except (CheckpointError, OSError):
            self._refused = True
            return
        self._add(pieces, segments)
        self._ahead |= {segment["file"] for segment in segments}

    def _add(self, pieces: list[_Piece], segments: list[Segment]) -> None:
        for piece, segment in zip(pieces, segments, strict=True):
            self._on_disk[piece.path].append(segment)

    def _forget_overwritten(self, rings: Mapping[str, Ring]) -> None:
        for path, ring in rings.items():
            known, oldest = self._on_disk.get(path, []), _oldest(ring)
            self._on_disk[path] = [s for s in known if oldest < s["stop"] <= ring.written]

    def _next(self, path: str, ring: Ring) -> int:
        """Return the number of the first row that no segment holds."""
        return max(_oldest(ring), max((s["stop"] for s in self._on_disk[path]), default=0))

    def _new_pieces(self, path: str, ring: Ring) -> Iterator[_Piece]:
        """Yield the rows that no segment holds, as views, in pieces that end at the array's end."""
        most = max(1, SEGMENT_BYTES // max(1, _row_bytes(ring)))
        start = self._next(path, ring)
        while start < ring.written:
            row = start % ring.capacity
            rows = ring.array[row : min(row + most, ring.capacity, row + ring.written - start)]
            yield _Piece(path, start, rows)
            start += len(rows)


def _write_all(pieces: list[_Piece], segments: Segments) -> list[Segment]:
    """Write pieces, several at a time; return their segments in the same order.

    Raises:
        OSError: the folder can't be made.
        NotWritten: the file system refused.
    """
    segments.make_folder()
    if len(pieces) <= WRITERS:
        return [piece.write(segments) for piece in pieces]
    with ThreadPoolExecutor(WRITERS, "rl_lab-segments") as threads:
        return list(threads.map(lambda piece: piece.write(segments), pieces))


def _oldest(ring: Ring) -> int:
    return max(0, ring.written - ring.capacity)


def _row_bytes(ring: Ring) -> int:
    return prod(ring.array.shape[1:]) * ring.array.itemsize

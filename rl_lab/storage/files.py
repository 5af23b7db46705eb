"""Bytes on disk: whole files or none, and the errors that say what is wrong with them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

_MALFORMED = (
    SafetensorError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    MemoryError,
)


class CheckpointError(Exception):
    """Something about a checkpoint on disk; the message is one line."""


class CheckpointCorrupt(CheckpointError):
    """Bytes on disk are not those that were written."""


class CheckpointMissing(CheckpointError):
    """There is no checkpoint."""


class NotWritten(CheckpointError):
    """A file could not be written (the disk is full, say); what was there before is whole."""


class FormatTooNew(CheckpointError):
    """A newer version of the lab wrote this checkpoint."""


@contextmanager
def malformed_as_corrupt(path: Path) -> Iterator[None]:
    """Bytes whose hash is right may still be nothing that the lab wrote."""
    try:
        yield
    except _MALFORMED as error:
        text = " ".join(str(error).split())
        raise CheckpointCorrupt(f"{path} can't be decoded: {type(error).__name__}: {text}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by way of a synced temporary beside it, so that it is whole at any moment.

    Raises:
        NotWritten: the file system refused.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise NotWritten(f"{path} could not be written: {error.strerror}") from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def json_bytes(value: Any) -> bytes:
    """Return canonical JSON: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes in hex."""
    return hashlib.sha256(data).hexdigest()

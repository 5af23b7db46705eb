"""Files that are written whole or not at all, and how bytes are encoded and hashed."""

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

from rl_lab.storage.errors import CheckpointCorrupt, CheckpointError, NotWritten

_MALFORMED = (
    SafetensorError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
    MemoryError,
)


@contextmanager
def malformed_as_corrupt(path: Path) -> Iterator[None]:
    """Raise CheckpointCorrupt where decoding fails: bytes with the right hash need not come from the lab."""
    try:
        yield
    except CheckpointError:
        raise
    except _MALFORMED as error:
        text = " ".join(str(error).split())
        raise CheckpointCorrupt(f"{path} can't be decoded: {type(error).__name__}: {text}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file through a synced temporary beside it, so that the file at `path` is always whole.

    Raises:
        NotWritten: the file system refused; the file is as it was.
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
    """Return canonical JSON: equal values always give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def npy_bytes(array: np.ndarray) -> bytes:
    """Return an array of any shape as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()

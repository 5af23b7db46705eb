"""Files that are written whole or not at all, and how bytes are encoded and hashed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from safetensors import SafetensorError

from rl_lab.storage.errors import CheckpointCorrupt, CheckpointError, NotWritten

Bytes = bytes | memoryview  # a view of an array is contiguous, and counts as the bytes of its memory

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


@contextmanager
def replacing(path: str | Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield the place of a temporary beside `path`, which takes the place of `path` when the block has ended well.

    Before it moves it is synced to the disk and checked, so that the file at `path` is always whole: the new one
    or the one that was there before. A symbolic link stays, and what it points to is replaced.

    Args:
        check: looks at the finished temporary, and raises a ValueError that says what is wrong with it.

    Raises:
        NotWritten: the file system refused, or the check failed; what was at `path` is as it was.
    """
    path = Path(path)
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    temporary = target.with_name(f".{target.name[:60]}.{os.getpid()}-{threading.get_native_id()}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise NotWritten(f"{path} could not be written: it is not a regular file")
        yield temporary
        sync(temporary)
        if check is not None:
            _pass(check, temporary, path)
        temporary.replace(target)
        sync(target.parent)
    except OSError as error:
        raise NotWritten(f"{path} could not be written: {reason_of(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: str | Path, *data: Bytes) -> None:
    """Write a file whole or not at all, part after part; a device or pipe, such as /dev/stdout, is written to as it is.

    Raises:
        NotWritten: the file system refused; the file is as it was.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            with path.open("wb") as file:
                file.writelines(data)
        except OSError as error:
            raise NotWritten(f"{path} could not be written: {reason_of(error)}") from error
        return
    with replacing(path, _require_size(size_of(*data))) as temporary, temporary.open("wb") as file:
        file.writelines(data)


def move(source: Path, target: Path) -> None:
    """Give a file another name in its folder, also after a power cut; a file of that name is replaced.

    Raises:
        NotWritten: the file system refused.
    """
    try:
        source.replace(target)
        sync(target.parent)
    except OSError as error:
        raise NotWritten(f"{target} could not be written: {reason_of(error)}") from error


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON for people, whole or not at all.

    Raises:
        NotWritten: the file system refused; the file is as it was.
    """
    write_atomically(path, json.dumps(value, indent=1).encode())


def require_zip(path: Path) -> None:
    """Check that a file is a whole zip archive, such as a .npz. Raises ValueError if it isn't."""
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()
    except BadZipFile as error:
        raise ValueError(f"the archive can't be read: {error}") from error
    if damaged is not None:
        raise ValueError(f"its member {damaged} is damaged")


def reason_of(error: OSError) -> str:
    """Return why the file system refused, in a few words on one line."""
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def _pass(check: Callable[[Path], None], temporary: Path, path: Path) -> None:
    """Check a finished file. Raises NotWritten with what is wrong with it."""
    try:
        check(temporary)
    except ValueError as error:
        raise NotWritten(f"{path} could not be written: {' '.join(str(error).split())}") from error


def _require_size(size: int) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        if (found := path.stat().st_size) != size:
            raise ValueError(f"{found} of {size} bytes arrived")

    return check


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def json_bytes(value: Any) -> bytes:
    """Return canonical JSON: equal values always give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def npy_parts(array: np.ndarray) -> tuple[bytes, memoryview]:
    """Return the header and the data of an array [R, ...] as a .npy file; the data are copied only if they must be."""
    header, data = io.BytesIO(), np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(data))
    return header.getvalue(), data.data


def size_of(*data: Bytes) -> int:
    """Return the length of all parts together, in bytes."""
    return sum(memoryview(part).nbytes for part in data)


def sha256(*data: Bytes) -> str:
    """Return the SHA-256 of all parts, one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for part in data:
        digest.update(part)
    return digest.hexdigest()

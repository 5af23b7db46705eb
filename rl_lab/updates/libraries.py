"""Compiled libraries on disk: the private folder that holds them, which of them may be loaded, and which are removed.

A library is code. It is loaded only from a folder to which this user alone can write, and only if this user wrote it.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from getpass import getuser
from pathlib import Path

from platformdirs import user_cache_path

from rl_lab.code_folders import is_own_file, make_private, refuse_code_folder
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of, replacing, sha256
from rl_lab.types import UsageError

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"  # torch's own, which it sets itself once it has chosen a folder
KEPT_SECONDS = 30 * 24 * 3600.0
"""Libraries that no run has loaded for so long are removed, and whatever a compiler left behind."""


def library_folder() -> Path:
    """Return the private folder of the lab's libraries, which exists.

    It lies in the folder that TORCHINDUCTOR_CACHE_DIR names, and by default in the user's own cache. If other users
    could write there, a warning says so, and a temporary folder of this process takes its place.

    Raises:
        UsageError: the folder that TORCHINDUCTOR_CACHE_DIR names can't be made.
    """
    return _prepared_folder(_chosen_by_user())


def torch_folder() -> Path:
    """Return where torch itself keeps code that it compiles, which the lab leaves alone."""
    return Path(os.environ.get(VARIABLE) or _torch_default_folder())


def _torch_default_folder() -> str:
    return f"{tempfile.gettempdir()}/torchinductor_{getuser()}"  # a name that anybody can foresee


def _chosen_by_user() -> Path | None:
    """Return the folder that the user has chosen for compiled code; None if there is none, or only torch's default."""
    named = os.environ.get(VARIABLE)
    return Path(named).absolute() if named and named != _torch_default_folder() else None


@functools.cache  # once for each process: the check, its warning, and the removal of what is old
def _prepared_folder(chosen: Path | None) -> Path:
    folder = user_cache_path("rl_lab") / "libraries" if chosen is None else chosen / "rl_lab"
    try:
        make_private(folder)
        folder = folder.resolve()
        reason = refuse_code_folder(folder)
    except OSError as error:
        if chosen is not None:
            raise cannot_keep(folder, error) from error
        reason = f"can't be made: {error.strerror}"
    if reason is not None:
        return _temporary_folder(folder, reason)
    remove_old(folder)
    return folder


@functools.cache
def _removed_at_exit() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="rl_lab-")  # its name can't be foreseen, and it is private


def _temporary_folder(refused: Path, reason: str) -> Path:
    warnings.warn(
        f"compiled code is neither loaded from nor kept in {str(refused)!r}, which {reason}: each process compiles anew"
        f" ({VARIABLE} may name another folder, to which only you can write)",
        stacklevel=2,
    )
    return Path(_removed_at_exit().name).resolve()


def cannot_keep(folder: Path, error: OSError | NotWritten) -> UsageError:
    """Return the error that says that compiled code can't be written."""
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return UsageError(
        f"{VARIABLE}: compiled code can't be kept in {str(folder)!r}: {reason}"
        " (allowed: a folder with some MB of room, or compile 'no')"
    )


# Libraries ---------------------------------------------------------------------------------------------


def find_library(name: str) -> Path | None:
    """Return the library that was compiled before, marked as used now; None if none may be loaded.

    It must have been written by this user, and hold the bytes that were written.
    """
    for path in library_folder().glob(f"{name}-*.so"):
        with suppress(FileNotFoundError):  # another process has just removed it
            if is_own_file(path) and path.stem == f"{name}-{sha256(path.read_bytes())}":
                _mark_as_used(path)
                return path
    return None


def _mark_as_used(path: Path) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        raise
    except OSError:
        pass  # on a disk that can't be written, nothing is removed either


def keep_library(name: str, data: bytes) -> Path:
    """Write a library under its name and the hash of its bytes, and return its path.

    Raises:
        NotWritten: the file system refused; nothing is left of the library.
    """
    folder = library_folder()
    path = folder / f"{name}-{sha256(data)}.so"
    with replacing(path) as temporary:
        temporary.touch(mode=0o600)  # whatever the umask is: one that its group may write to isn't loaded
        temporary.write_bytes(data)
    return path


def remove_old(folder: Path) -> None:
    """Remove what no process has used for KEPT_SECONDS. What can't be removed is left.

    A library is marked as used before it is loaded, and one that is loaded already outlives its file.
    """
    before = time.time() - KEPT_SECONDS
    for path in folder.iterdir():
        try:
            if max(_times(path)) < before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # another process was faster, or it isn't this user's


def _times(path: Path) -> Iterator[float]:
    """Yield when a file, or anything in a folder, was last changed."""
    yield path.lstat().st_mtime
    if path.is_dir() and not path.is_symlink():
        yield from (inner.lstat().st_mtime for inner in path.rglob("*"))

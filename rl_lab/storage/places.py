"""Checks that files can be written at a place, before any work is done for them. Nothing is left behind."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from rl_lab.storage.files import reason_of
from rl_lab.types import UsageError


def require_file(path: str | Path, name: str) -> Path:
    """Return the path of a file to be written, if one can be written there; missing folders can be made then.

    Args:
        name: of the option or argument, for the message.

    Raises:
        UsageError: the name is empty, too long or a folder's, or its folder can't be written into.
    """
    path = _named(path, name)
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        if not path.exists() or path.is_file():  # a device or a pipe is opened as it is
            _require_room(path)
    except (OSError, ValueError) as error:
        raise _refusal(path, name, "written", error) from error
    return path


def require_folder(path: str | Path, name: str) -> Path:
    """Return the path of a folder, if files can be written in it; it is there, or can be made with its parents.

    Args:
        name: of the option or argument, for the message.

    Raises:
        UsageError: the name is empty, too long or a file's, or the file system refuses.
    """
    path = _named(path, name)
    try:
        _require_room(path / "x")
    except (OSError, ValueError) as error:
        raise _refusal(path, name, "written into", error) from error
    return path


def _named(path: str | Path, name: str) -> Path:
    if not os.fspath(path):
        raise UsageError(f"{name} '' is empty (allowed: a path)")
    return Path(path)


def _refusal(path: Path, name: str, verb: str, error: OSError | ValueError) -> UsageError:
    reason = reason_of(error) if isinstance(error, OSError) else str(error)
    return UsageError(f"{name} {str(path)!r} can't be {verb}: {reason}")


def _require_room(path: Path) -> None:
    """Make a file of another name in the lowest folder above `path` that is there, and remove it.

    Raises:
        OSError: the folder takes no files, or the names below it are too long.
        ValueError: a name holds a null byte.
    """
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    below = path.relative_to(folder).parts
    # Each part is looked up in a folder that is there: a missing one would hide a name that is too long.
    for part in below:
        _look_up(folder / part)
    _look_up(path)  # the whole may be too long
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".rl_lab-"):
        pass


def _look_up(path: Path) -> None:
    with suppress(FileNotFoundError):
        os.lstat(path)

"""Folders from which compiled code is loaded, and the check that nobody else could have written it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

ROOT_USER = 0
UNMAPPED_USER = 65534  # in a container with its own user ids: whoever has none there, such as the host's root
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_private(folder: Path) -> None:
    """Make a folder, and the folders above it that are missing, which only this user may open.

    Raises:
        OSError: the file system refused.
    """
    for path in (*reversed(folder.parents), folder):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)  # another process may be as fast


def refuse_code_folder(folder: Path) -> str | None:
    """Return why code in a folder may not be loaded (the end of a sentence about the folder), or None if it may.

    The folder has to belong to this user, who alone may write to it. Nobody else may be able to replace it either:
    the folders above it have to belong to this user or to root, and others may only write to those whose sticky bit
    protects what isn't theirs. Where files have no numeric owners (Windows), nothing is refused.

    Args:
        folder: exists, and has no symbolic links in its path.
    """
    if not hasattr(os, "getuid"):
        return None
    own = os.getuid()
    if (reason := _refuse_owner_and_mode(folder, {own})) is not None:
        return reason
    for path in folder.parents:
        is_sticky = bool(path.stat().st_mode & stat.S_ISVTX)
        reason = _refuse_owner_and_mode(path, {own, ROOT_USER, UNMAPPED_USER}, is_sticky=is_sticky)
        if reason is not None:
            return f"lies in {str(path)!r}, which {reason}"
    return None


def refuse_beside(folder: Path, source: Path) -> str | None:
    """Return why code in a folder may not be loaded though that in the folder `source` is; None if it may.

    It may if it belongs to the same user, to this one or to root, and nobody may write to it who can't write there.
    """
    if not hasattr(os, "getuid"):
        return None
    status, beside = folder.stat(), source.stat()
    if status.st_uid not in {os.getuid(), ROOT_USER, beside.st_uid}:
        return "belongs to another user"
    if status.st_mode & ~beside.st_mode & OTHERS_MAY_WRITE:
        return "can be written by other users"
    return None


def _refuse_owner_and_mode(path: Path, owners: set[int], *, is_sticky: bool = False) -> str | None:
    status = path.stat()
    if status.st_uid not in owners:
        return "belongs to another user"
    if status.st_mode & OTHERS_MAY_WRITE and not is_sticky:
        return "can be written by other users"
    return None


def is_own_file(path: Path) -> bool:
    """Return whether this is a regular file of this user, to which nobody else may write."""
    status = path.lstat()
    if not hasattr(os, "getuid"):
        return stat.S_ISREG(status.st_mode)
    is_closed = status.st_uid == os.getuid() and not status.st_mode & OTHERS_MAY_WRITE
    return stat.S_ISREG(status.st_mode) and is_closed

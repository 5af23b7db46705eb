"""Reads files that others wrote: whatever is in them, the answer is a table of numbers or one line on what is wrong."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rl_lab.checks import shown
from rl_lab.storage.files import reason_of
from rl_lab.types import Array, UsageError

MOST_BYTES = 64 * 2**20  # of a file, and of an archive's members together
MOST_FOLDERS = 20_000  # looked into
DEEPEST = 6  # levels below the one that is given


def damaged(path: Path, why: object) -> UsageError:
    """Return the error for a file that can't be read as what it should be."""
    return UsageError(f"{path} can't be read: {' '.join(str(why).split())}")


def text_of(path: Path) -> str:
    """Return the text of a file. Raises UsageError if it is too large, isn't UTF-8, or can't be read."""
    try:
        if not path.is_file():
            raise damaged(path, "it is no regular file")
        if (size := path.stat().st_size) > MOST_BYTES:
            raise damaged(path, f"it has {size} bytes (allowed: up to {MOST_BYTES})")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise damaged(path, "it isn't text in UTF-8") from None
    except OSError as error:
        raise damaged(path, reason_of(error)) from error


def rows_of(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file with a head, each with its number, which is 1 for the first.

    Values that a short row lacks are "".

    Raises:
        UsageError: it has no head, repeats a name in it, has a longer row, or isn't a CSV file.
    """
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        head = [name.strip() for name in next(reader, [])]
        if not any(head) or len(set(head)) < len(head):
            raise damaged(path, f"its head is {shown(','.join(head))} (needed: distinct names of columns)")
        for number, row in enumerate(reader, start=1):
            if len(row) > len(head):
                raise damaged(path, f"row {number} has {len(row)} values for {len(head)} columns")
            if row:
                yield number, dict.fromkeys(head, "") | dict(zip(head, row, strict=False))
    except csv.Error as error:
        raise damaged(path, error) from None


def number_of(path: Path, row: int, column: str, text: str | None) -> float:
    """Return a number of a CSV file. Raises UsageError if it isn't one, or isn't finite."""
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise damaged(path, f"row {row} has {column} {shown(text or '')} (allowed: a finite number)")
    return number


def arrays_of(path: Path, names: tuple[str, ...]) -> dict[str, Array]:
    """Return arrays of numbers of an .npz file, without running code that it may hold.

    Raises:
        UsageError: it is no such file, lacks one of them, is too large, or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MOST_BYTES:
                raise damaged(path, f"its arrays have {size} bytes (allowed: up to {MOST_BYTES})")
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in names if name not in stored.files]:
                raise damaged(path, f"it lacks {', '.join(missing)}")
            found = {name: stored[name] for name in names}
    except UsageError:
        raise
    except OSError as error:
        raise damaged(path, reason_of(error)) from error
    except Exception as error:  # whatever the decoders of damaged archives and arrays raise
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    for name, array in found.items():
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise damaged(path, f"{name} isn't an array of finite numbers")
    return found


def folders_of(path: Path) -> list[Path]:
    """Return a folder and those below it, in their order by name; links aren't followed.

    Raises:
        UsageError: there are too many, or the file system refuses.
    """
    found, level = [path], [path]
    for _ in range(DEEPEST):
        try:
            level = [
                below
                for folder in level
                for below in sorted(folder.iterdir())
                if below.is_dir() and not below.is_symlink()
            ]
        except OSError as error:
            raise damaged(path, reason_of(error)) from error
        found += level
        if len(found) > MOST_FOLDERS:
            raise damaged(path, f"more than {MOST_FOLDERS} folders are below it")
    return sorted(found)

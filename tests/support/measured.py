"""The data files of `make coverage`, one for each process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def remove_damaged(folder: Path) -> list[Path]:
    """Remove the data files of processes that were killed while they wrote them; return which.

    Coverage writes without a journal, so that half a file is left then, and reading it may end the whole report.
    """
    damaged = [path for path in sorted(folder.glob(".coverage.*")) if not _is_whole(path)]
    for path in damaged:
        path.unlink()
    return damaged


def _is_whole(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as database:
            database.execute("SELECT version FROM coverage_schema")
            return database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        return False

"""study.json of older formats, and the folders that it names, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_lab.runs.migrations import current_env_id
from rl_lab.storage import formats
from rl_lab.storage.formats import Migrations
from rl_lab.studies.results import folder_name

UNNUMBERED = 1  # a study.json without a format was written before studies had one


def migrate_study(info: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the contents of a study.json in the current format.

    Args:
        path: the file, for messages.

    Raises:
        FormatTooNew: a newer version wrote it.
    """
    number = info.get("format", UNNUMBERED)
    formats.require_readable(number, path)
    return formats.migrate(info, number, MIGRATIONS) | {"format": formats.FORMAT}


def rename_folders(out: Path, info: dict[str, Any]) -> None:
    """Rename the folders of environments whose ids have changed since an older study.json was written.

    Args:
        out: the study's directory.
        info: the contents of its study.json, as they were read.
    """
    for before, now in zip(info["env_ids"], migrate_study(info, out)["env_ids"], strict=True):
        old, new = (out / "runs" / folder_name(env_id) for env_id in (before, now))
        if old != new and old.is_dir() and not new.exists():
            old.rename(new)


def _from_1(info: dict[str, Any]) -> dict[str, Any]:
    return info | {"env_ids": [current_env_id(env_id) for env_id in info["env_ids"]]}


MIGRATIONS: Migrations = {1: _from_1, 2: dict}  # 3 has the same layout

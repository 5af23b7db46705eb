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
    for new, old in _renamings(out, info).items():
        old.rename(new)


def present_folder(run_dir: Path, out: Path, info: dict[str, Any] | None) -> Path:
    """Return where a run lies as long as the folders of an older study haven't been renamed.

    Args:
        run_dir: where it lies afterwards.
        out: the study's directory.
        info: the contents of its study.json, as they were read; None if there is none.
    """
    renamings = {} if info is None else _renamings(out, info)
    return next(
        (old / run_dir.relative_to(new) for new, old in renamings.items() if run_dir.is_relative_to(new)),
        run_dir,
    )


def _renamings(out: Path, info: dict[str, Any]) -> dict[Path, Path]:
    """Return the present folders of the environments whose ids have changed, by their folders of today's ids."""
    pairs = zip(migrate_study(info, out)["env_ids"], info["env_ids"], strict=True)
    folders = {out / "runs" / folder_name(now): out / "runs" / folder_name(before) for now, before in pairs}
    return {new: old for new, old in folders.items() if old != new and old.is_dir() and not new.exists()}


def _from_1(info: dict[str, Any]) -> dict[str, Any]:
    return info | {"env_ids": [current_env_id(env_id) for env_id in info["env_ids"]]}


MIGRATIONS: Migrations = {1: _from_1, 2: dict}  # 3 has the same layout

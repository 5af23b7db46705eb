"""config.json of older formats, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_lab.storage import formats
from rl_lab.storage.formats import Migrations


def migrate_config(body: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the contents of a config.json in the current format.

    Args:
        path: the file, for messages.

    Raises:
        FormatTooNew: a newer version wrote it.
        LookupError: it lacks its format or its env_id.
    """
    formats.require_readable(body["format"], path)
    return formats.migrate(body, body["format"], MIGRATIONS) | {"format": formats.FORMAT}


def _from_1(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"env_id": _beneath_rl_lab(body["env_id"])}


def _beneath_rl_lab(env_id: str) -> str:
    """Return module:id with the module where it is now: format 1 had `envs` beside `rl_lab`."""
    module, colon, _ = env_id.partition(":")
    return f"rl_lab.{env_id}" if colon and module.split(".")[0] == "envs" else env_id


MIGRATIONS: Migrations = {1: _from_1}

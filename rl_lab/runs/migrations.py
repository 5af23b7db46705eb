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
        TypeError: one of them is of the wrong type.
    """
    formats.require_readable(body["format"], path)
    return formats.migrate(body, body["format"], MIGRATIONS) | {"format": formats.FORMAT}


def _from_1(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"env_id": current_env_id(body["env_id"])}


def current_env_id(env_id: Any) -> str:
    """Return an environment's id of format 1 with the module where it is now: `envs` was beside `rl_lab`.

    Only ids of the lab's own namespace change: another project may have a package `envs` as well.

    Raises:
        TypeError: it isn't text.
    """
    if not isinstance(env_id, str):
        raise TypeError(f"env_id must be text, got {env_id!r}")
    module, _, name = env_id.partition(":")
    ours = module.split(".")[0] == "envs" and name.startswith("lab/")
    return f"rl_lab.{env_id}" if ours else env_id


MIGRATIONS: Migrations = {1: _from_1}

"""config.json of older formats, brought up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_lab.storage import formats
from rl_lab.storage.formats import Migrations

# The fields of an agent with a network: how formats 1 and 2 read observations before there were such fields.
READING = {
    "channels": "smaller",
    "image_scale": "byte",
    "one_hot_most": 2**63 - 1,
}  # discrete ones were never embedded
NETWORK = {"encoder", "hidden"}  # the fields by which such an agent is known


def migrate_config(body: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the contents of a config.json in the current format.

    Args:
        path: the file, for messages.

    Raises:
        FormatTooNew: a newer version wrote it.
        LookupError: it lacks its format or its env_id.
        TypeError: one of them, or the agent's fields, is of the wrong type.
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


def _from_2(body: dict[str, Any]) -> dict[str, Any]:
    """Write into the fields what was done without asking before there were such fields.

    Builds that wrote format 2 gained fields one by one, and whichever is there was obeyed. Those that had `channels`
    divided bytes by the bound of their space; those that had `eval_total_steps` embedded discrete observations.

    Raises:
        TypeError: the fields of the agent are none.
    """
    if "fields" not in body:
        return body
    if not isinstance(fields := body["fields"], dict):
        raise TypeError(f"fields must be names with values, got {fields!r}")
    before = as_done_before(body, fields)
    if "channels" in fields:
        before["fields"].pop("image_scale", None)
    if "eval_total_steps" in body:
        before["fields"].pop("one_hot_most", None)
    return {**before, **body, "fields": before["fields"] | fields}


def as_done_before(body: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of format 3 that earlier ones lack, with the values that stand for what was done then.

    Args:
        body: the fields of a run.
        fields: those of its agent.

    Returns:
        Fields of a run, and under "fields" those of its agent.
    """
    episodes, steps = body.get("eval_episodes", 20), body.get("eval_max_steps", 10_000)
    return {
        "eval_total_steps": max(1, episodes * steps),  # evaluations had no limit in all
        "fields": dict(READING) if fields.keys() >= NETWORK else {},
    }


MIGRATIONS: Migrations = {1: _from_1, 2: _from_2}

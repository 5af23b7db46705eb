"""The members of checkpoints of older formats, brought up to date before an agent sees them."""

from __future__ import annotations

from functools import partial
from typing import Any

from rl_lab.replay.migrations import migrate_replays
from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.runs.run import Members
from rl_lab.storage.formats import Migrations
from rl_lab.types import EnvSpec


def member_migrations(spec: EnvSpec) -> Migrations:
    """Return the migrations of a checkpoint's members, for an environment with this spec."""
    return {1: partial(_from_1, spec=spec), 2: dict}  # 3 has the same members


def _from_1(members: Members, spec: EnvSpec) -> Members:
    """Bring replays up to date; a run that began before there was early stopping begins with it now."""
    run: dict[str, Any] = {"early_stopping": EarlyStopping().state_dict()} | members["run"]
    out = members | {"run": run}
    return out | {"agent": migrate_replays(members["agent"], spec)} if "agent" in members else out

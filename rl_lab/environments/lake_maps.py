"""Maps of FrozenLake: Gymnasium takes cells that it doesn't know for ice, and fails at others in words of numpy's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.toy_text.frozen_lake import MAPS

from rl_lab.checks import shown
from rl_lab.types import UsageError

CELLS = "SFHG"
EXAMPLE = "a list of rows, such as [SFF, FHG]"


def require_map(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Raise UsageError for a map of FrozenLake that isn't rows of one length of known cells with a start."""
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    if not str(getattr(spec, "entry_point", "")).endswith(":FrozenLakeEnv"):
        return
    desc, name = kwargs.get("desc"), kwargs.get("map_name")
    if desc is not None:
        _require_rows(desc)
    elif not (name is None or (isinstance(name, str) and name in MAPS)):
        raise UsageError(f"map_name {shown(name)} is unknown (allowed: {', '.join(MAPS)})")


def _require_rows(desc: Any) -> None:
    if not isinstance(desc, list | tuple | np.ndarray) or getattr(desc, "ndim", 1) == 0:
        raise UsageError(f"desc {shown(desc)} is no map (allowed: {EXAMPLE})")
    rows = list(desc)
    if any(isinstance(row, bytes) for row in rows):  # whose cells are numbers
        raise UsageError(f"desc {shown(desc)} has rows of bytes (allowed: texts, {EXAMPLE})")
    if not rows or not all(hasattr(row, "__len__") for row in rows):
        raise UsageError(f"desc {shown(desc)} is no map (allowed: {EXAMPLE})")
    lengths = [len(row) for row in rows]
    if len(set(lengths)) != 1:
        raise UsageError(f"map {shown(desc)} has rows of unequal length: {lengths} (allowed: all the same)")
    cells = [_cell(cell) for row in rows for cell in row]
    if unknown := [cell for cell in cells if not (isinstance(cell, str) and cell in [*CELLS])]:
        raise UsageError(f"map {shown(desc)} has the cell {shown(unknown[0])} (allowed: {', '.join(CELLS)})")
    if "S" not in cells:
        raise UsageError(f"map {shown(desc)} has no start (allowed: one S or more)")
    if lengths[0] == 1 and any(isinstance(row, str) for row in rows):
        raise UsageError(
            f"map {shown(desc)} has rows of one cell in a text (allowed: texts of two cells or more, or lists of cells)"
        )


def _cell(cell: Any) -> Any:
    return cell.decode("latin-1") if isinstance(cell, bytes) else cell

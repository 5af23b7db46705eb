"""The steps that an on-policy agent learns from: raw columns [T, N, ...], discarded after learning."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.replay.frames import require_finite
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State, Step


class Rollout:
    """Up to `rows` consecutive vector steps of N environments.

    Columns are trees of arrays [T, N, ...], named like the fields of `Step` and its extras. Successors are
    stored beside the observations, so that every step has its true successor, even at a truncation, at a cut
    at a resume, and at the end of the rollout.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self.filled = 0
        self.state: State = ()  # the carry before the first step; where is_first, still the old episode's
        self._columns: dict[str, Any] = {}  # allocated at the first step

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another step."""
        return self.filled == self.rows

    @property
    def columns(self) -> dict[str, Any]:
        """The steps added so far, as views [T, N, ...] by name; masks and carries only if there are any."""
        return map_leaves(lambda column: column[: self.filled], self._columns)

    def add(self, step: Step) -> None:
        """Store a vector step.

        Raises:
            FloatingPointError: a reward or an observation isn't finite; nothing is stored.
        """
        assert not self.is_full
        _require_finite_step(step)
        if self.filled == 0:
            self.state = step.state
        row = {
            "obs": step.obs,
            "next_obs": step.next_obs,
            "reward": step.reward,
            "terminated": step.terminated,
            "truncated": step.truncated,
            "is_first": step.is_first,
            **({"next_state": step.next_state} if step.next_state else {}),
            **({"mask": step.mask} if step.mask is not None else {}),
            **step.extras,
        }
        if not self._columns:
            self._columns = map_leaves(self._column_for, row)
        _write(self._columns, self.filled, row)
        self.filled += 1

    def _column_for(self, leaf: Array) -> Array:
        return np.zeros((self.rows, *leaf.shape), leaf.dtype)

    def clear(self) -> None:
        """Discard all steps; the arrays are reused."""
        self.filled, self.state = 0, ()

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the steps added since the last `clear`; {} if there are none."""
        return {"columns": self.columns, "state": self.state} if self.filled else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all steps with those of a saved state."""
        self.clear()
        if state:
            columns, self.state = state["columns"], state["state"]
            self.filled = len(columns["reward"])
            self._columns = map_leaves(lambda rows: self._column_for(rows[0]), columns)
            _write(self._columns, slice(self.filled), columns)


def _write(column: Any, at: int | slice, value: Any) -> None:
    """Write a tree of values to the rows `at` of a tree of columns."""
    if isinstance(column, dict):
        for key, part in column.items():
            _write(part, at, value[key])
    elif isinstance(column, tuple):
        for part, x in zip(column, value, strict=True):
            _write(part, at, x)
    else:
        column[at] = value


def _require_finite_step(step: Step) -> None:
    require_finite("reward", step.reward)
    _require_finite("next observation", step.next_obs, step.checked)
    if 1 in step.is_first.tobytes():  # the others were checked already, as successors in the step before
        _require_finite("observation", step.obs, step.checked)


def _require_finite(name: str, obs: Obs, checked: bool, path: str = "") -> None:
    if isinstance(obs, dict | tuple):
        for key, part in obs.items() if isinstance(obs, dict) else enumerate(obs):
            _require_finite(name, part, checked, f"{path}[{key!r}]")
    elif obs.dtype.kind == "f" and not (checked and obs.dtype.itemsize <= 4):
        require_finite(name, obs, path)

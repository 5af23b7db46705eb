"""The policy of a person at the keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space, shown
from rl_lab.environments.actions import Composite, action_dtype
from rl_lab.types import Array, Decision, Obs, State, UsageError


class HumanPolicy:
    """Repeats the action that was pressed last; before the first, the one that is nearest to doing nothing.

    That is the first legal action of a Discrete space. For other spaces it is zeros, or what of the space is next to
    them.

    Args:
        space: of the environment's actions.

    Raises:
        UsageError: the space has parts, which no key stands for.
    """

    def __init__(self, space: spaces.Space):
        if isinstance(space, Composite):
            raise UsageError(
                f"a person can't play actions of {show_space(space)}"
                " (allowed: Discrete, MultiDiscrete, MultiBinary, Box)"
            )
        self._space = space
        self._idle = _idle(space)
        self._pressed: np.ndarray | None = None

    def press(self, action: Any) -> None:
        """Act so from now on.

        Raises:
            UsageError: the action isn't of the space.
        """
        taken = _cast(action, action_dtype(self._space))
        if taken is None or not self._space.contains(taken if taken.ndim else taken[()]):
            raise UsageError(
                f"action {shown(action)} is not of {show_space(self._space)} (allowed: one that is)"
            )
        self._pressed = taken

    def release(self) -> None:
        """Do nothing from now on."""
        self._pressed = None

    def initial_state(self, num_envs: int) -> State:
        """Return (): a person remembers for themselves."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the pressed action for each environment, [N, ...]; where it is illegal, the first legal one."""
        chosen = self._idle if self._pressed is None else self._pressed
        action = np.repeat(np.asarray(chosen)[None], len(is_first), axis=0)
        if mask is not None and isinstance(self._space, spaces.Discrete):
            start = int(self._space.start)
            legal = mask[np.arange(len(action)), action - start]
            action = np.where(legal, action, mask.argmax(axis=-1) + start).astype(action.dtype)
        return Decision(action, ())

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return {}: nobody sees the figures behind a person's choice."""
        return {}


def _cast(action: Any, dtype: np.dtype) -> np.ndarray | None:
    """Return an action as an array of the dtype; None if a whole number would be rounded, or it is no number at all."""
    try:
        given = np.asarray(action)
        taken = given.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    lossless = given.dtype.kind in "biuf" and (dtype.kind == "f" or np.array_equal(given, taken))
    return taken if lossless else None


def _idle(space: spaces.Space) -> np.ndarray:
    """Return the action of the space that is nearest to doing nothing."""
    dtype = action_dtype(space)
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros(space.shape), space.low, space.high).astype(dtype)
    start = np.asarray(getattr(space, "start", 0))
    return np.broadcast_to(start, space.shape or ()).astype(dtype)

"""Masks of legal actions: the ways in which environments give them, and what vectors make of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.environments.actions import counts_of, first_action, leaf_spaces, mask_size
from rl_lab.environments.observed import RAISED, Refused, as_array, show, show_error
from rl_lab.types import Array, UsageError

KEY = "action_mask"
BEFORE_THE_END = "(allowed: at least one before the episode's end)"
BOOL, INT8, UINT8 = map(np.dtype, ("?", "b", "B"))  # whose bytes are the mask's entries
MOST_KNOWN = 1024  # masks that a reader remembers
ARRAY = np.ndarray  # looked up at every step


class MaskReader:
    """Reads one environment's masks: info["action_mask"], or a method `action_masks()` where info has none.

    An `action_masks` that asks for arguments is the environment's own affair.
    Whether there are masks is settled by the first reset; from then on all resets and steps give one, or none
    does. Masks are sequences of 0 and 1 with one entry per action; those of actions in several parts lie one after
    another, as in sb3-contrib's MaskablePPO (two for each bit of MultiBinary). Where the end of an episode leaves no
    action legal, all count as legal.
    """

    def __init__(self, env: gymnasium.Env):
        self._env, self._actions = env, env.action_space
        self._method = _takes_nothing(_find(env, "action_masks"))
        self._choices, self._size = choices_of(env.action_space), mask_size(env.action_space)
        self.silent = False  # whether this environment is known to give no masks
        self._given: bool | None = None  # unknown before the first reset
        self._known: dict[bytes, Array] = {}  # masks that were read and leave an action legal, by their bytes

    def again(self, value: Any) -> Array | None:
        """Return a mask as `read` returned it if it has been read before; None means that `read` has to look.

        Most masks come again, and looking them up takes a fifth of checking them.
        """
        if type(value) is ARRAY and value.ndim == 1:
            dtype = value.dtype
            if dtype is INT8 or dtype is BOOL or dtype is UINT8:
                return self._known.get(value.tobytes())
        return None

    def read(self, info: Mapping[str, Any], over: bool, terminated: bool) -> Array | None:
        """Return the legal actions, a bool [A] that can't be written to, or None without masks.

        Args:
            over: the episode has ended, so that no action has to be legal.
            terminated: it has terminated, so that no mask has to come: nothing is bootstrapped from there.

        Raises:
            Refused: a mask is missing or unexpected, has another form, or leaves no action legal.
        """
        given = KEY in info or self._method
        if self._given is None:
            self._given, self.silent = given, not given
        if terminated and self._given and KEY not in info:
            return np.ones(self._size, np.bool_)
        if given != self._given:
            came, allowed = ("one", "none") if given else ("none", "one")
            raise Refused(f"{came} came, the first reset gave {allowed} (allowed: always, or never)")
        if not given:
            return None
        value = info[KEY] if KEY in info else self._ask()
        if (known := self.again(value)) is not None:
            return known
        mask = self._checked(cast_masks(value, self._actions), over)
        if type(value) is ARRAY and value.dtype in (BOOL, INT8, UINT8) and len(self._known) < MOST_KNOWN:
            held = value.tobytes()
            if mask.tobytes() == held:  # it leaves an action legal as it is
                self._known[held] = mask
        return mask

    def _checked(self, mask: Array, over: bool) -> Array:
        """Return the mask, read-only; where it leaves no action legal after the episode's end, all are legal.

        Raises:
            Refused: no action is legal before the end.
        """
        legal = mask.tobytes()  # searching bytes takes a tenth of a call of numpy's
        for first, beyond in self._choices:
            if b"\1" not in legal[first:beyond]:
                if not over:
                    raise Refused(f"no action is legal {BEFORE_THE_END}")
                mask[first:beyond] = True  # so that a maximum exists
        mask.flags.writeable = False
        return mask

    def _ask(self) -> Any:
        try:
            return _find(self._env, "action_masks")()
        except RAISED as error:
            raise Refused(f"action_masks raised {show_error(error)}") from error


def cast_masks(value: Any, actions: spaces.Space, *num_envs: int) -> Array:
    """Return the mask that was given for actions, bool [A], or those of several environments, bool [N, A].

    Raises:
        Refused: the actions have no discrete parts, or the value has another shape, or other entries than 0 and 1.
    """
    shape = (*num_envs, mask_size(actions))
    if not shape[-1]:
        raise Refused(f"{show_space(actions)} actions take none (allowed: actions with discrete parts)")
    given = as_array(value)
    right = given.shape == shape and given.dtype.kind in "biuf"
    if not right or not ((given == 0) | (given == 1)).all():
        raise Refused(f"{show(value)} (allowed: {' x '.join(map(str, shape))} entries of 0 or 1)")
    return given.astype(np.bool_)


def fill_masks(masks: Array, choices: Sequence[tuple[int, int]], over: Array) -> None:
    """Let all values of an entry count as legal where none is, in the masks [N, A] of environments that are `over`.

    Raises:
        Refused: an entry of another environment has no legal value.
    """
    for first, beyond in choices:
        legal = masks[:, first:beyond].any(axis=1)
        if not (legal | over).all():
            where = int(np.argmin(legal | over))
            raise Refused(f"no action is legal in environment {where} {BEFORE_THE_END}")
        masks[~legal, first:beyond] = True


def choices_of(space: spaces.Space) -> list[tuple[int, int]]:
    """Return where each discrete entry of an action begins and ends in its mask."""
    counts = [count for leaf in leaf_spaces(space) for count in counts_of(leaf) or ()]
    ends = np.cumsum(counts).tolist()
    return list(zip([0, *ends], ends, strict=False))


def legal_actions(space: spaces.Space, num_envs: int, masks: Array | None) -> Array:
    """Return some legal action for each of several environments, [N, ...].

    Args:
        masks: bool [N, A]; None: all are legal.
    """
    actions = np.stack([first_action(space)] * num_envs)
    if masks is None:
        return actions
    entries = actions.reshape(num_envs, -1)  # a view
    choices, k = iter(choices_of(space)), 0
    for leaf in leaf_spaces(space):
        for j in range(prod(leaf.shape or ())):
            if counts_of(leaf) is not None:
                entries[:, k + j] += masks[:, slice(*next(choices))].argmax(axis=1).astype(entries.dtype)
        k += prod(leaf.shape or ())
    return actions


class MaskFromObservation(gymnasium.Wrapper):
    """Moves the mask that a Dict observation holds under "action_mask" to `info`.

    Raises:
        UsageError: nothing else is observed.
    """

    keeps_model = False

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        rest = {key: part for key, part in env.observation_space.spaces.items() if key != KEY}
        if not rest:
            raise UsageError(f"the observation holds nothing but {KEY!r} (allowed: other parts beside it)")
        self.observation_space = spaces.Dict(rest)

    @staticmethod
    def fits(env: gymnasium.Env) -> bool:
        """Return whether the environment observes its mask."""
        space = env.observation_space
        return isinstance(space, spaces.Dict) and KEY in space.spaces and mask_size(env.action_space) > 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        return _moved(*self.env.reset(**kwargs))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs, info = _moved(obs, info)
        return obs, reward, terminated, truncated, info


def _moved(obs: Any, info: Any) -> tuple[Any, Any]:
    """Return the observation without its mask, and info with it; what isn't a dict is left to the contract."""
    if not isinstance(obs, dict) or KEY not in obs or not isinstance(info, dict):
        return obs, info
    return {key: part for key, part in obs.items() if key != KEY}, {KEY: obs[KEY], **info}


def _find(env: gymnasium.Env, name: str) -> Any:
    return env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None


def _takes_nothing(method: Any) -> bool:
    """Return whether something can be called without arguments; what doesn't tell its arguments counts as such."""
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError) as error:
        return isinstance(error, ValueError) and callable(method)
    return True


def mask_of(info: Mapping[str, Array]) -> Array | None:
    """Return the legal actions of a vector, bool [N, A]; None for environments without masks.

    Where no action is legal, as in environments that a masked reset left alone, all count as legal.
    """
    mask = info.get(KEY)
    if mask is None or (len(mask) == 1 and 1 in mask.tobytes()):
        return mask
    return mask | ~mask.any(axis=-1, keepdims=True)


def merge_masks(reset: Array, fresh: Array | None, mask: Array | None) -> Array | None:
    """Return the masks [N, A] after a masked reset: `fresh` where `reset` (bool [N]), elsewhere `mask`.

    Vectors return all-zero masks for the environments that weren't reset.
    """
    return fresh if fresh is None or mask is None else np.where(reset[:, None], fresh, mask)

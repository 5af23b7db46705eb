"""The one place where what an environment gives is checked: at its first reset and at every step after it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from math import isfinite
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from rl_lab.environments.ending import close_env, name_of
from rl_lab.environments.known_spaces import require_known
from rl_lab.environments.masks import MaskReader
from rl_lab.environments.observed import (
    MOST_REWARD,
    RAISED,
    Refused,
    observation_check,
    outside,
    show,
    show_error,
)
from rl_lab.environments.pictures import as_rgb
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.types import Array, EnvironmentFault, EnvironmentWarning

T = TypeVar("T")
FLOAT32, BOOL, INT64 = np.float32, np.bool_, np.int64  # looked up at every step

EXACT = 2**53  # whole numbers up to here are exact in float64


class Contract(gymnasium.Wrapper):
    """Checks observations, rewards, flags and masks, and keeps stored actions from being changed.

    What can be cast without loss is cast; see `observed` and `masks`. A mask of legal actions ends up in
    info["action_mask"] as bool [A], wherever the environment gives it; of the rest of `info` only what `LifeLoss` says
    is read.

    Args:
        env_index: the environment's place in its vector, for messages.

    Raises:
        UsageError: a space has no fixed shape.
    """

    keeps_model = True

    def __init__(self, env: gymnasium.Env, env_index: int = 0):
        super().__init__(env)
        require_known(env.observation_space, env.action_space)
        self.env_index = env_index
        self.notes: list[str] = []  # what is allowed and should be known, each said once
        self.close_fault: str | None = None  # what was raised when it was closed, in a line
        self._check = observation_check(env.observation_space)
        self._masks = MaskReader(env)
        self._seed: int | None = None
        self._steps = 0
        self._resets = 0
        self._note_at = 1  # the next step of an episode whose observation is compared with its bounds

    @property
    def spec(self) -> EnvSpec | None:  # type: ignore[override]
        """How Gymnasium makes the environment: that of the environment itself."""
        return self.env.spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; raise EnvironmentFault where it fails or breaks the contract."""
        self._seed, self._steps = seed, 0
        self._resets += 1
        try:
            answer = self.env.reset(seed=seed, options=options or None)
        except RAISED as error:
            raise self.fault(f"reset raised {show_error(error)}") from error
        obs, info = self._parts(answer, "reset", ("observation", "info"))
        obs = self._checked("observation", self._check, obs)
        if not self._resets & (self._resets - 1):  # at resets 1, 2, 4, 8, ...
            self._note_bounds(obs)
        return obs, self._with_mask(info, False, False)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step with a copy of the action; raise EnvironmentFault where it fails or breaks the contract."""
        self._steps += 1
        if type(action) is not INT64:
            action = _own(action)
        try:
            answer = self.env.step(action)
        except RAISED as error:
            raise self.fault(f"step raised {show_error(error)}") from error
        if type(answer) is not tuple or len(answer) != 5:
            self._parts(answer, "step", ("observation", "reward", "terminated", "truncated", "info"))
        obs, reward, terminated, truncated, info = answer
        try:
            obs = self._check(obs)
        except Refused as refused:
            raise self.fault(f"observation: {refused}") from None
        # What comes in a usual type passes at once: this is done at every step.
        if type(reward) is not float:
            usual = type(reward) is FLOAT32 or (type(reward) is int and -EXACT <= reward <= EXACT)
            reward = float(reward) if usual else self._checked("reward", as_reward, reward)
        if not -MOST_REWARD <= reward <= MOST_REWARD:  # nan isn't either
            reward = self._checked("reward", as_reward, reward)
        if type(terminated) is not bool:
            known = type(terminated) is BOOL
            terminated = bool(terminated) if known else self._checked("terminated", as_flag, terminated)
        if type(truncated) is not bool:
            known = type(truncated) is BOOL
            truncated = bool(truncated) if known else self._checked("truncated", as_flag, truncated)
        if self._steps == self._note_at:
            self._note_at *= 2  # steps 1, 2, 4, 8, ..., each in one episode: this is to be told, no fault
            self._note_bounds(obs)
        if type(info) is dict and LIFE_LOST not in info:
            masks = self._masks
            if "action_mask" not in info:
                if masks.silent:
                    return obs, reward, terminated, truncated, info
            elif (mask := masks.again(info["action_mask"])) is not None:
                alone = len(info) == 1  # a new dict of one entry takes half of a copy's time
                read = {"action_mask": mask} if alone else {**info, "action_mask": mask}
                return obs, reward, terminated, truncated, read
        return obs, reward, terminated, truncated, self._with_mask(info, terminated or truncated, terminated)

    def render(self) -> Any:
        """Return what is rendered; raise EnvironmentFault where that fails."""
        try:
            return self.env.render()
        except RAISED as error:
            raise self.fault(f"render raised {show_error(error)}") from error

    def picture(self) -> Array:
        """Return what is rendered, uint8 [H, W, 3]; raise EnvironmentFault where that fails or is no picture."""
        return self._checked("render", as_rgb, self.render())

    def close(self) -> None:
        """Close the environment; what it raises is said once, and stands in `close_fault`."""
        self.close_fault = close_env(self.env, name_of(self.env)) or self.close_fault

    def _with_mask(self, info: Any, over: bool, terminated: bool) -> dict[str, Any]:
        """Return info, with the legal actions of environments that have masks as bool [A]."""
        if not isinstance(info, dict):
            raise self.fault(f"info: {show(info)} (allowed: a dict)")
        if LIFE_LOST in info:
            info = {**info, LIFE_LOST: self._checked("info 'life_lost'", as_flag, info[LIFE_LOST])}
        if self._masks.silent and "action_mask" not in info:
            return info
        try:
            mask = self._masks.read(info, over, terminated)
        except Refused as refused:
            raise self.fault(f"action mask: {refused}") from None
        return info if mask is None else {**info, "action_mask": mask}

    def _note_bounds(self, obs: Any) -> None:
        """Say once that an observation lies outside its bounds, if it does."""
        if not self.notes and (where := outside(self.observation_space, obs)):
            self.notes.append(f"{self._where()}: observation {where} is kept as it is")
            warnings.warn(self.notes[-1], EnvironmentWarning, stacklevel=3)

    def _parts(self, answer: Any, method: str, names: tuple[str, ...]) -> tuple[Any, ...]:
        if not isinstance(answer, tuple) or len(answer) != len(names):
            raise self.fault(f"{method} returned {show(answer)} (allowed: a tuple of {', '.join(names)})")
        return answer

    def _checked(self, field: str, check: Callable[[Any], T], value: Any) -> T:
        try:
            return check(value)
        except Refused as refused:
            raise self.fault(f"{field}: {refused}") from None

    def fault(self, what: str) -> EnvironmentFault:
        """Return the error that names this environment and the point that its episode has reached."""
        return EnvironmentFault(f"{self._where()}: {what}")

    def _where(self) -> str:
        at = f"step {self._steps}" if self._steps else "reset"
        return f"environment {name_of(self.env)} (number {self.env_index}, seed {self._seed}, {at})"


def as_reward(value: Any) -> float:
    """Return a reward as a float: numbers and arrays of shape () or (1,) are taken.

    Raises:
        Refused: another type or shape, or a number that isn't finite in float32.
    """
    if isinstance(value, np.floating) and abs(reward := float(value)) <= MOST_REWARD:
        return reward
    reward = _scalar(value, "biuf")
    if reward is None or not isfinite(reward):
        raise Refused(f"{show(value)} (allowed: a finite number)")
    if not -MOST_REWARD <= reward <= MOST_REWARD:
        raise Refused(f"{show(value)} (allowed: what float32 holds, up to {MOST_REWARD:.2g})")
    return float(reward)


def as_flag(value: Any) -> bool:
    """Return a flag as a bool: booleans, 0 and 1, and arrays of them of shape () or (1,) are taken.

    Raises:
        Refused: anything else.
    """
    if type(value) is np.bool_:
        return bool(value)
    flag = _scalar(value, "biu")
    if flag is None or flag not in (0, 1):
        raise Refused(f"{show(value)} (allowed: True or False)")
    return bool(flag)


def _scalar(value: Any, kinds: str) -> Any:
    """Return a number, or the one in an array of shape () or (1,); None for anything else."""
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)):
        given: Array = np.asarray(value)
        if given.dtype.kind in kinds and given.shape in ((), (1,)):
            return given.reshape(())[()]
    return None


def _own(action: Any) -> Any:
    """Return a copy of an action that an environment may change, integers as np.int64."""
    if isinstance(action, np.ndarray):
        return action.copy()
    return np.int64(action) if isinstance(action, (int, np.integer)) else deepcopy(action)

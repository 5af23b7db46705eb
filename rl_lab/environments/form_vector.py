"""A vectorised form as the lab's loop takes it: what it gives is checked, for all its environments at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.utils import batch_space

from rl_lab.environments.actions import mask_size
from rl_lab.environments.ending import close_env
from rl_lab.environments.forms import equals_single_envs
from rl_lab.environments.known_spaces import require_known
from rl_lab.environments.masks import KEY, cast_masks, choices_of, fill_masks
from rl_lab.environments.observed import (
    MOST_REWARD,
    RAISED,
    Refused,
    as_array,
    observation_check,
    outside,
    show,
    show_error,
)
from rl_lab.environments.vectors import MaskedVector, StepResult
from rl_lab.trees import map_leaves
from rl_lab.types import Array, EnvironmentFault, EnvironmentWarning, Obs

FLOAT64_BYTES = 8  # longer numbers may become infinite in float64


class FormVector(MaskedVector):
    """A vectorised form that is held to what `Contract` asks of single environments.

    What it gives are copies, but for the observations of a form that equals single environments: it gives them away.

    Args:
        name: of the environment, for messages.

    Raises:
        UsageError: it resets environments by itself, or a space has no fixed shape.
    """

    checked = True  # observations are finite

    def __init__(self, form: gymnasium.vector.VectorEnv, name: str):
        super().__init__(form)
        self.form: Any = form
        require_known(form.single_observation_space, form.single_action_space)
        self.equals_single_envs = equals_single_envs(form)
        self.notes: list[str] = []  # what is allowed and should be known, each said once
        self._name = name
        self._space = batch_space(form.single_observation_space, form.num_envs)
        self._check = observation_check(self._space)
        self._steps, self._note_at = 0, 1  # of the vector; the next one whose observations meet their bounds
        self._over = np.ones(self.num_envs, np.bool_)  # before the first reset
        self._choices = choices_of(form.single_action_space)
        self._has_mask: bool | None = None  # unknown before the first reset

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]; raise EnvironmentFault where that fails."""
        opened = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        obs, info = self._asked(lambda: self.form.reset(seed=list(seed), options=options), "reset", 2)
        self._over = self._over & ~opened
        return self._observation(obs), self._read(info, ~opened, False)

    def step(self, action: Array) -> StepResult:
        """Step all environments with actions [N, ...].

        Raises:
            ValueError: an action is outside the space.
            EnvironmentFault: the form fails, or what it gives breaks the contract.
        """
        assert not np.count_nonzero(self._over)  # a finished environment is reset first
        given = self._action(action)
        self._steps += 1
        obs, reward, terminated, truncated, info = self._asked(lambda: self.envs.step(given), "step", 5)
        reward = self._rewards(reward)
        terminated, truncated = self._flags("terminated", terminated), self._flags("truncated", truncated)
        self._over = terminated | truncated
        obs = self._observation(obs)
        if self._steps == self._note_at:
            self._note_at *= 2
            self._note_bounds(obs)
        return obs, reward, terminated, truncated, self._read(info, self._over, bool(terminated.all()))

    def close(self) -> None:
        """Close the form."""
        close_env(self.envs, self._name)

    def _asked(self, ask: Callable[[], Any], method: str, parts: int) -> tuple[Any, ...]:
        try:
            answer = ask()
        except RAISED as error:
            raise self._fault(f"{method} raised {show_error(error)}") from error
        if not isinstance(answer, tuple) or len(answer) != parts:
            raise self._fault(f"{method} returned {show(answer)} (allowed: a tuple of {parts} parts)")
        return answer

    def _observation(self, obs: Any) -> Obs:
        try:
            obs = self._check(obs)
        except Refused as refused:
            raise self._fault(f"observation: {refused}") from None
        return obs if self.equals_single_envs else map_leaves(np.array, obs)

    def _rewards(self, values: Any) -> Array:
        """Return a copy of the rewards, float64 [N]: forms may go on to write into theirs."""
        column = self._column("reward", values, "biuf", "finite numbers")
        if column.dtype.itemsize <= FLOAT64_BYTES:
            reward = column.astype(np.float64)
        else:
            with np.errstate(over="ignore"):
                reward = column.astype(np.float64)
        if not (np.abs(reward) <= MOST_REWARD).all():  # nan isn't either
            raise self._fault(f"reward: {show(reward)} (allowed: finite numbers of up to {MOST_REWARD:.2g})")
        return reward

    def _flags(self, field: str, values: Any) -> Array:
        """Return a copy of flags, bool [N]; 0 and 1 are taken."""
        allowed = "True or False, or 0 and 1"
        column = self._column(field, values, "biu", allowed)
        if column.dtype != np.bool_ and not ((column == 0) | (column == 1)).all():
            raise self._fault(f"{field}: {show(values)} (allowed: {allowed})")
        return column.astype(np.bool_)

    def _column(self, field: str, values: Any, kinds: str, allowed: str) -> Array:
        """Return numbers or flags as an array [N]; one of shape [N, 1] is taken, as (1,) is of single environments."""
        count = self.num_envs
        if type(values) is np.ndarray and values.shape == (count,) and values.dtype.kind in kinds:
            return values
        column = as_array(values)
        if column.shape not in ((count,), (count, 1)) or column.dtype.kind not in kinds:
            raise self._fault(
                f"{field}: {show(values)} (allowed: {allowed}, as an array of shape ({count},))"
            )
        return column.reshape(count)

    def _read(self, info: Any, free: Array, terminated: bool) -> dict[str, Array]:
        """Return the masks in info, bool [N, A], if there are any.

        Args:
            free: where no action has to be legal, bool [N].
            terminated: every episode has terminated, so that no masks have to come.
        """
        if not isinstance(info, dict):
            raise self._fault(f"info: {show(info)} (allowed: a dict)")
        if self._has_mask is None:
            self._has_mask = KEY in info
        if self._has_mask and terminated and KEY not in info:
            return {KEY: np.ones((self.num_envs, mask_size(self.single_action_space)), np.bool_)}
        if self._has_mask != (KEY in info):
            raise self._fault("action mask: given at some times (allowed: always, or never)")
        if not self._has_mask:
            return {}
        try:
            masks = cast_masks(info[KEY], self.single_action_space, self.num_envs)
            fill_masks(masks, self._choices, free)
        except Refused as refused:
            raise self._fault(f"action mask: {refused}") from None
        return {KEY: masks}

    def _note_bounds(self, obs: Any) -> None:
        """Say once that observations lie outside their bounds, if they do."""
        if not self.notes and (where := outside(self._space, obs)):
            self.notes.append(f"the vector of {self._name}: observation {where} is kept as it is")
            warnings.warn(self.notes[-1], EnvironmentWarning, stacklevel=3)

    def _fault(self, what: str) -> EnvironmentFault:
        at = f"step {self._steps}" if self._steps else "before the first step"
        return EnvironmentFault(f"the vector of {self._name} ({self.num_envs} environments, {at}): {what}")

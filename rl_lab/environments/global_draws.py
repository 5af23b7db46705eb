"""Environments that draw from the global generators of `random` and numpy: finding them, and seeding their episodes.

Every episode has a seed of its own, which such an environment ignores: two runs of one seed would differ, and
no episode could be replayed. It is therefore given global generators of its own, seeded with each episode and
put in place while it is reset or stepped. Nothing else sees them, nor is its own stream moved by anyone
else: so resuming, vectors in one process or in many, and evaluation stay exact. Draws that come too late to be
found so are noticed in play, and said.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from rl_lab.environments.actions import single_action
from rl_lab.environments.draws import draw_from_space, draw_legal
from rl_lab.environments.masks import MaskFromObservation, MaskReader
from rl_lab.environments.observed import RAISED
from rl_lab.types import EnvironmentWarning

STEPS = 30  # that are played to find out, few since they may fail or hang
EPISODES = 3  # among which they are divided
IN_VAIN = 3  # episodes that are watched step by step without finding anything, after which draws are those of others


class DrawsGlobally(EnvironmentWarning):
    """An environment draws from a global generator, and was noticed too late to be given its own."""


class OwnGlobals(gymnasium.Wrapper):
    """Gives an environment global generators of its own, seeded with each episode."""

    keeps_model = True

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._own = _state()

    @contextmanager
    def _in_place(self, seed: int | None = None) -> Iterator[None]:
        """Put the environment's own generators in place for the length of a `with` block."""
        outside = _state()
        if seed is None:
            _set_state(self._own)
        else:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  that is what the environment draws from
        try:
            yield
        finally:
            self._own = _state()
            _set_state(outside)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; with a seed, the global generators that the environment sees begin there too."""
        with self._in_place(seed):
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step with the environment's own generators in place."""
        with self._in_place():
            return self.env.step(action)


class LateDraws(gymnasium.Wrapper):
    """Notices an environment that draws from global generators later than is looked for before a run, and says so.

    In episodes 1, 2, 4, 8, ... the generators' states before the reset and at the end are compared (at the next reset,
    if the episode is left open), which costs nothing at most steps. Where they differ, anyone may have drawn (SB3
    does). The next episode is therefore watched step by step; after three that were watched in vain, the draws are
    taken for those of others.
    """

    keeps_model = True

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self._episode = 0
        self._before: tuple[Any, Any] | None = None  # the states before an episode whose end is compared
        self._watched = False  # this episode is watched step by step
        self._suspicious = False  # the next one is to be
        self._in_vain = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if self._watched:  # to its end or not, nothing was found
            self._in_vain += 1
        self._compare()
        self._episode += 1
        self._watched, self._suspicious = self._suspicious, False
        compares = not self._episode & (self._episode - 1) and self._in_vain < IN_VAIN and not self._watched
        self._before = _state() if compares else None
        with self._watching():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        if self._watched:
            with self._watching():
                answer = self.env.step(action)
        else:
            answer = self.env.step(action)
        if self._before is not None and _is_over(answer):
            self._compare()
        return answer

    def _compare(self) -> None:
        """Suspect the environment if the states have changed since the reset of an episode that is compared."""
        if self._before is not None:
            self._suspicious = not _equal(_state(), self._before)
            self._before = None

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Say that the environment draws globally if it does so within a `with` block, in a watched episode."""
        before = _state() if self._watched else None
        yield
        if before is not None and not _equal(_state(), before):
            self._watched, self._in_vain = False, IN_VAIN  # once is enough
            name = self.spec.id if self.spec is not None else type(self.unwrapped).__name__
            warnings.warn(
                f"environment {name} draws from a global generator ({_which(before)}), later than in the {STEPS} steps"
                " that are played to find out: runs of one seed differ, and resumed runs may close the open episode"
                " (allowed: draw from self.np_random)",
                DrawsGlobally,
                stacklevel=4,
            )


def draws_globally(env: gymnasium.Env) -> bool:
    """Play random steps and return whether the environment draws from a global generator, which is left as it was.

    An environment that fails is found out by whoever plays it in earnest.
    """
    before = _state()
    try:
        return any(not _equal(_state(), before) for _ in _steps(env))
    except RAISED:
        return not _equal(_state(), before)
    finally:
        _set_state(before)


def _steps(env: gymnasium.Env) -> Iterator[None]:
    """Play random legal actions; yield after each reset and step."""
    env = MaskFromObservation(env) if MaskFromObservation.fits(env) else env
    rng, masks, single = np.random.default_rng(0), MaskReader(env), single_action(env.action_space)
    for episode in range(EPISODES):
        _, info = env.reset(seed=episode)
        yield
        over = terminated = False
        for _ in range(STEPS // EPISODES):
            mask = masks.read(info, over, terminated)
            action = (
                draw_from_space(env.action_space, rng)
                if mask is None
                else single(draw_legal(env.action_space, rng, 1, mask[None]))
            )
            _, _, terminated, truncated, info = env.step(action)
            yield
            if over := bool(terminated or truncated):
                break


def _state() -> tuple[Any, Any]:
    """Return the states of both global generators."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _is_over(answer: Any) -> bool:
    """Return whether a step ended its episode; what is no answer at all is the contract's affair."""
    try:
        return bool(answer[2] or answer[3])
    except Exception:  # whatever a stranger's objects raise
        return False


def _which(before: tuple[Any, Any]) -> str:
    """Return which generator has moved since."""
    return "random" if random.getstate() != before[0] else "np.random"


def _set_state(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002


def _equal(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return one[0] == other[0] and all(map(np.array_equal, one[1], other[1]))

"""Environments that draw from the global generators of `random` and numpy: finding them, and seeding their episodes.

Every episode has a seed of its own, which such an environment ignores: two runs of one seed would differ, and
no episode could be replayed. It is therefore given global generators of its own, seeded with each episode and
put in place while it is reset or stepped. Nothing else sees them, nor is its own stream moved by anyone
else: so resuming, vectors in one process or in many, and evaluation stay exact. All other environments
cost nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

STEPS = 30  # that are played to find out, few since they may fail or hang; later draws go unnoticed
EPISODES = 3  # among which they are divided


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


def draws_globally(env: gymnasium.Env) -> bool:
    """Play random steps and return whether the environment draws from a global generator, which is left as it was.

    An environment that fails is found out by whoever plays it in earnest.
    """
    before = _state()
    try:
        return any(not _equal(_state(), before) for _ in _steps(env))
    except Exception:  # whatever a stranger's code raises
        return not _equal(_state(), before)
    finally:
        _set_state(before)


def _steps(env: gymnasium.Env) -> Iterator[None]:
    """Play random legal actions; yield after each reset and step."""
    env.action_space.seed(0)
    for episode in range(EPISODES):
        _, info = env.reset(seed=episode)
        yield
        for _ in range(STEPS // EPISODES):
            _, _, terminated, truncated, info = env.step(_legal_action(env, info))
            yield
            if terminated or truncated:
                break


def _legal_action(env: gymnasium.Env, info: dict[str, Any]) -> Any:
    mask = info.get("action_mask")
    if mask is None or not isinstance(env.action_space, gymnasium.spaces.Discrete):
        return env.action_space.sample()
    return env.action_space.sample(np.asarray(mask, dtype=np.int8))


def _state() -> tuple[Any, Any]:
    """Return the states of both global generators."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _set_state(state: tuple[Any, Any]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002


def _equal(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return one[0] == other[0] and all(map(np.array_equal, one[1], other[1]))

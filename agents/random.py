"""Uniformly random legal actions: the baseline that every learning agent has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import joined_actions, mask_size
from rl_lab.environments.draws import draw_from_space, draw_legal
from rl_lab.function_class import OnePolicy
from rl_lab.policies import random_actions
from rl_lab.problem import Problem
from rl_lab.seeding import Streams, seed_of
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.types import Array, Decision, Metrics, Obs, State, Step


@dataclass(frozen=True)
class Config:
    """The random agent has no fields."""

    def budget_fields(self) -> tuple[str, ...]:
        """Return no field: nothing depends on the budget."""
        return ()


class RandomPolicy:
    """Draws each action uniformly from the space, or from the legal actions if there is a mask.

    Args:
        generator: returns the generator to draw from; called whenever `initial_state` starts a new play.
    """

    def __init__(self, space: spaces.Space, generator: Callable[[], np.random.Generator]):
        self._space, self._generator = space, generator
        self._draw = _draw_from(space, generator())

    def initial_state(self, num_envs: int) -> State:
        """Return (), as it remembers nothing; the actions that follow are drawn from a generator asked for anew."""
        self._draw = _draw_from(self._space, self._generator())
        return ()

    def for_episode(self, seed: int) -> RandomPolicy:
        """Return one whose draws follow from an episode's seed, so that watched episodes differ from one another."""
        return RandomPolicy(self._space, lambda: np.random.default_rng(seed_of(seed, "random episode")))

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Draw an action for each environment, [N, ...]."""
        return Decision(self._draw(len(is_first), mask))

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `probabilities` [N, A], uniform over the legal actions, for Discrete actions; otherwise {}."""
        if not isinstance(self._space, spaces.Discrete):
            return {}
        allowed = np.ones((len(is_first), int(self._space.n))) if mask is None else mask.astype(float)
        return {"probabilities": allowed / allowed.sum(axis=-1, keepdims=True)}


class RandomAgent:
    """Acts at random and learns nothing."""

    gradient_steps = 0
    collect_env_steps = 1

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        self._space = problem.spec.action_space
        self._seed, self._rng = problem.seed, streams["explore"]

    def policy(self, *, explore: bool) -> RandomPolicy:
        """Return the policy; each evaluation restarts its own generator, so that all evaluations draw alike."""
        if explore:
            return RandomPolicy(self._space, lambda: self._rng)
        return RandomPolicy(
            self._space, lambda: np.random.default_rng(seed_of(self._seed, "random evaluation"))
        )

    def function_class(self) -> OnePolicy:
        """Return that there is one policy alone."""
        return OnePolicy()

    def observe(self, step: Step) -> None:
        """Store nothing."""

    def update(self) -> Metrics | None:
        """Learn nothing."""
        return None

    def diagnostics(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return no weights."""
        return {"weights": {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


def _draw_from(space: spaces.Space, rng: np.random.Generator) -> Callable[[int, Array | None], Array]:
    """Return the function that maps N and a mask (bool [N, A] or None) to actions [N, ...] drawn from the space."""
    if isinstance(space, spaces.Discrete):
        return lambda n, mask: space.start + random_actions(rng, n, int(space.n), mask)
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind == "f":
        low, high = np.maximum(space.low, -1e6), np.minimum(space.high, 1e6)
        return lambda n, mask: rng.uniform(low, high, (n, *space.shape)).astype(space.dtype)
    return lambda n, mask: _draw_parts(space, rng, n, mask)


def _draw_parts(space: spaces.Space, rng: np.random.Generator, n: int, mask: Array | None) -> Array:
    """Return actions [N, ...] of a space that isn't Discrete, with mask bool [N, M] or None."""
    if mask is not None and mask_size(space):
        return draw_legal(space, rng, n, mask)
    return joined_actions(space, [draw_from_space(space, rng) for _ in range(n)])


@built_from(Config)
def build(config: Config) -> Interaction:
    """Act uniformly at random among the legal actions: the baseline to beat."""
    return Interaction(config, RandomAgent, lambda config, spec: None)

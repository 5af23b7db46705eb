"""The problem to be learned, and what one instance of the environment reveals before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.check_env import brief_check
from rl_lab.environments.contract import Contract
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.types import Array, EnvironmentFault, EnvSpec, UsageError


@dataclass(frozen=True)
class Problem:
    """An environment to be learned and the budget for it. `spec` and `model` are computed on first access."""

    env_id: str
    env_kwargs: Mapping[str, Any]
    num_envs: int
    total_steps: int
    seed: int
    device: str
    make: Callable[[int], VectorEnv]  # make(n): a vector of n environments without autoreset
    initial_weights: Mapping[str, Any] | None = None  # for a warm start; None for fresh weights
    dataset: Dataset | None = None  # recorded steps to learn from; None if the agent acts itself

    @cached_property
    def spec(self) -> EnvSpec:
        """The environment's spaces and limits, read from one instance."""
        return self._probe[0]

    @cached_property
    def model(self) -> TabularModel | None:
        """The finite MDP behind the environment; None if there is none."""
        return self._probe[1]

    def check(self) -> list[str]:
        """Play a few steps of one environment; return what one should know about it before a run, a line each.

        Raises:
            UsageError: the environment fails or breaks its contract.
        """

        def single() -> gymnasium.Env:
            vector = self.make(1)
            assert isinstance(vector, SingleVector)
            return vector.env

        return brief_check(single)

    @property
    def cells(self) -> Array | None:
        """(row, column) of each state of the model, int64 [S, 2], for pictures; None if they don't form a grid."""
        return self._probe[2]

    @cached_property
    def _probe(self) -> tuple[EnvSpec, TabularModel | None, Array | None]:
        return probe(self)


# Wrappers that leave observations as they are.
LEAVE_OBSERVATIONS_ALONE = (
    Contract,
    LifeLoss,
    wrappers.TimeLimit,
    wrappers.PassiveEnvChecker,
    wrappers.OrderEnforcing,
    wrappers.RecordEpisodeStatistics,
)


def cells_of(env: gymnasium.Env) -> Array | None:
    """Return (row, column) of each state, int64 [S, 2]; None if the environment's states don't form a grid.

    The lab's environments have an attribute `cells`; Gymnasium's toy-text grids number their states row by row.
    """
    base = env.unwrapped
    if (cells := getattr(base, "cells", None)) is not None:
        return np.asarray(cells)
    shape = getattr(base, "shape", None) or (getattr(base, "nrow", 0), getattr(base, "ncol", 0))
    states = getattr(base.observation_space, "n", 0)
    return np.argwhere(np.ones(shape, bool)) if len(shape) == 2 and states == np.prod(shape) > 0 else None


def frame_stack_of(env: gymnasium.Env) -> int:
    """Return how many frames the wrappers stack along the observation's leading axis; 1 without stacking.

    A stack counts only if every wrapper above it is known to leave observations alone.
    """
    while isinstance(env, gymnasium.Wrapper) and type(env) in LEAVE_OBSERVATIONS_ALONE:
        env = env.env
    space = env.observation_space
    if not isinstance(env, wrappers.FrameStackObservation) or not isinstance(space, spaces.Box):
        return 1
    return env.stack_size if space.shape[0] == env.stack_size else 1


def probe(problem: Problem) -> tuple[EnvSpec, TabularModel | None, Array | None]:
    """Return an environment's spec, its finite MDP and its states' cells, int64 [S, 2], from one instance.

    The MDP and the cells are None where there are none.

    Raises:
        UsageError: the environment fails, or breaks its contract, at its first reset.
    """
    envs = problem.make(1)
    try:
        try:
            _, info = envs.reset(seed=[problem.seed])
        except EnvironmentFault as fault:
            raise UsageError(str(fault)) from fault
        env = getattr(envs, "env", None)
        limit = env.spec.max_episode_steps if env is not None and env.spec is not None else None
        spec = EnvSpec(
            env_id=problem.env_id,
            observation_space=envs.single_observation_space,
            action_space=envs.single_action_space,
            num_envs=problem.num_envs,
            max_episode_steps=limit,
            has_mask=mask_of(info) is not None,
            has_lives="life_lost" in info,
            frame_stack=1 if env is None else frame_stack_of(env),
        )
        model = None if env is None else extract_model(env)
        return spec, model, None if env is None or model is None else cells_of(env)
    finally:
        envs.close()

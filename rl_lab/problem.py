"""The problem to be learned, and what one instance of the environment reveals before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.check_env import brief_check
from rl_lab.environments.contract import Contract
from rl_lab.environments.global_draws import LateDraws, OwnGlobals
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.mdp.agreement import find_disagreement
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
        return self._probed.spec

    @cached_property
    def model(self) -> TabularModel | None:
        """The finite MDP behind the environment; None if there is none, or if `model_fault` says what is wrong."""
        return self._probed.model

    @property
    def model_fault(self) -> str | None:
        """How the environment's model differs from what it plays (one line); None if no difference was met."""
        return self._probed.model_fault

    @property
    def no_model(self) -> str:
        """Why there is no model to be had (part of a line)."""
        return self.model_fault or f"{self.env_id} gives no model (allowed: toy-text, lab/*)"

    @cached_property
    def warnings(self) -> list[str]:
        """What a person should know of the environment before a run, a line each; a few steps are played for it.

        Raises:
            UsageError: the environment fails or breaks its contract.
        """
        fault = self.model_fault
        known = [] if fault is None else [f"{fault} (so nothing exact is reported)"]
        if self.dataset is None:
            known += brief_check(self._single)
        return [f"warning: {line}" for line in known]

    def _single(self) -> gymnasium.Env:
        vector = self.make(1)
        assert isinstance(vector, SingleVector)
        return vector.env

    @property
    def cells(self) -> Array | None:
        """(row, column) of each state of the model, int64 [S, 2], for pictures; None if they don't form a grid."""
        return self._probed.cells

    @cached_property
    def _probed(self) -> Probed:
        return probe(self)


class Probed(NamedTuple):
    """What one instance of an environment tells."""

    spec: EnvSpec
    model: TabularModel | None = None
    cells: Array | None = None
    model_fault: str | None = None


# Wrappers that leave observations as they are.
LEAVE_OBSERVATIONS_ALONE = (
    Contract,
    LifeLoss,
    LateDraws,
    OwnGlobals,
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
    cells = getattr(base, "cells", None)
    if isinstance(cells, np.ndarray) and cells.ndim == 2 and cells.shape[1] == 2:
        return cells
    shape = getattr(base, "shape", None)
    if not isinstance(shape, tuple):
        shape = (getattr(base, "nrow", 0), getattr(base, "ncol", 0))
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


def probe(problem: Problem) -> Probed:
    """Return what one instance of an environment tells.

    Raises:
        UsageError: its model isn't valid, or it fails, or breaks its contract, at its first reset.
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
        if env is None or model is None:
            return Probed(spec)
        if (wrong := model_fault(env, model, problem.env_id)) is not None:
            return Probed(spec, model_fault=wrong)
        return Probed(spec, model, cells_of(env))
    finally:
        envs.close()


def model_fault(env: gymnasium.Env, model: TabularModel, env_id: str) -> str | None:
    """Play a few hundred steps; return in one line how the model differs from them, or None if it doesn't."""
    found = find_disagreement(env, model)
    return None if found is None else f"the model of {env_id} is not what it plays: {found}"

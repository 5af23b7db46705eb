"""The problem to be learned, and what one instance of the environment reveals before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import gymnasium
from gymnasium import spaces, wrappers

from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.check_env import brief_check
from rl_lab.environments.contract import Contract
from rl_lab.environments.global_draws import LateDraws, OwnGlobals
from rl_lab.environments.layout import Layout, layout_of
from rl_lab.environments.make import know_draws, known_draws
from rl_lab.environments.masks import mask_of
from rl_lab.environments.trial import tried
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.environments.wrappers import LIFE_LOST, LifeLoss
from rl_lab.mdp.agreed import find_new_disagreement
from rl_lab.mdp.model import TabularModel, extract_model, why_no_model
from rl_lab.types import Array, EnvironmentFault, EnvSpec, UsageError

T = TypeVar("T")


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
    horizon_steps: int | None = None  # over which schedules are spread; None: over the budget
    make_own: Callable[[int], VectorEnv] | None = None
    """Likewise the vectorised form in which the agent learns, whatever it plays; None: `make` makes that too."""
    other_episodes: str | None = None
    """Why several environments play other episodes than single ones do (a line); None: they play the same."""
    trial_seconds: float | None = None
    """Longest that a step may take where the environment is first tried in a process of its own; None: it isn't."""

    def with_seed(self, seed: int) -> Problem:
        """Return the same problem with another seed; what an instance has told already isn't asked for again."""
        other = replace(self, seed=seed)
        for name in ("_probed", "spec", "model", "warnings"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    @property
    def horizon(self) -> int:
        """The environment steps over which schedules are spread, after which they stay as they are."""
        return self.total_steps if self.horizon_steps is None else self.horizon_steps

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
        return self.model_fault or self._probed.no_model or f"{self.env_id} gives no model"

    @cached_property
    def warnings(self) -> list[str]:
        """What a person should know of the environment before a run, a line each; a few steps are played for it.

        Raises:
            UsageError: the environment fails or breaks its contract.
            EnvironmentFault: it ends the process in which it is tried, or hangs there.
        """
        fault = self.model_fault
        known = [] if fault is None else [f"{fault} (so nothing exact is reported)"]
        known += [] if self.other_episodes is None else [self.other_episodes]
        if self.dataset is None:
            known += self._try(lambda: brief_check(self._single))
        return [f"warning: {line}" for line in known]

    def check(self) -> None:
        """Refuse an environment that is broken; a few steps are played for it.

        Raises:
            UsageError: the environment fails or breaks its contract.
            EnvironmentFault: it ends the process in which it is tried, or hangs there.
        """
        _ = self.warnings

    def _try(self, work: Callable[[], T]) -> T:
        """Do what plays the environment, in a process of its own if `trial_seconds` says so."""
        return work() if self.trial_seconds is None else tried(work, self.trial_seconds)

    def _single(self) -> gymnasium.Env:
        vector = self.make(1)
        assert isinstance(vector, SingleVector)
        return vector.env

    @property
    def layout(self) -> Layout | None:
        """How the states of the model lie on a grid, for pictures; None if they don't."""
        return self._probed.layout

    @cached_property
    def _probed(self) -> Probed:
        return probe(self)


class Probed(NamedTuple):
    """What one instance of an environment tells."""

    spec: EnvSpec
    model: TabularModel | None = None
    layout: Layout | None = None
    model_fault: str | None = None
    no_model: str | None = None
    """Why there is no model (part of a line); None where there is one."""


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


def frame_stack_of(env: gymnasium.Env) -> int:
    """Return how many frames the wrappers stack along the observation's leading axis; 1 without stacking.

    A stack counts only if every wrapper above it is known to leave observations alone.
    """
    while isinstance(env, gymnasium.Wrapper) and type(env) in LEAVE_OBSERVATIONS_ALONE:
        env = env.env
    space = env.observation_space
    size = (
        env.stack_size if isinstance(env, wrappers.FrameStackObservation) else getattr(env, "frame_stack", 1)
    )
    return size if isinstance(space, spaces.Box) and space.shape[:1] == (size,) else 1


def frames_per_step_of(env: gymnasium.Env) -> int | None:
    """Return the frames of an Atari or MinAtar game for which an action is held; None for others, and if it varies."""
    game, skipped = env.unwrapped, 1
    while isinstance(env, gymnasium.Wrapper):
        skipped *= env.frame_skip if isinstance(env, wrappers.AtariPreprocessing) else 1
        env = env.env
    frames = getattr(
        game, "frames_per_step", getattr(game, "_frameskip", None) if hasattr(game, "ale") else None
    )
    return frames * skipped if isinstance(frames, int) else None


def probe(problem: Problem) -> Probed:
    """Return what one instance of an environment tells.

    Raises:
        UsageError: its model isn't valid, or it fails, or breaks its contract, at its first reset.
        EnvironmentFault: it ends the process in which it is tried, or hangs there.
    """
    tried_out = None
    if problem.trial_seconds is not None:
        tried_out = tried(lambda: _try_out(problem), problem.trial_seconds)
        know_draws(tried_out.draws)
    with closing(problem.make(1)) as envs:
        info = _first_reset(problem, envs)
        env = getattr(envs, "env", None)
        limit = env.spec.max_episode_steps if env is not None and env.spec is not None else None
        spec = EnvSpec(
            env_id=problem.env_id,
            observation_space=envs.single_observation_space,
            action_space=envs.single_action_space,
            num_envs=problem.num_envs,
            max_episode_steps=limit,
            has_mask=mask_of(info) is not None,
            has_lives=LIFE_LOST in info,
            frame_stack=1 if env is None else frame_stack_of(env),
            frames_per_step=None if env is None else frames_per_step_of(env),
        )
        model = None if env is None else extract_model(env)
        if env is None:
            return Probed(
                spec, no_model=f"{problem.env_id} runs as a vector of its own, which gives no model"
            )
        if model is None:
            return Probed(spec, no_model=why_no_model(env, problem.env_id))
        wrong = tried_out.model_fault if tried_out else model_fault(env, model, problem.env_id)
        return Probed(spec, model_fault=wrong) if wrong is not None else Probed(spec, model, layout_of(env))


class _TriedOut(NamedTuple):
    """What an instance has shown in a process of its own."""

    model_fault: str | None
    draws: dict[str, bool]  # what was found out about draws from global generators


def _try_out(problem: Problem) -> _TriedOut:
    """Play an instance as `probe` does."""
    with closing(problem.make(1)) as envs:
        _first_reset(problem, envs)
        env = getattr(envs, "env", None)
        model = None if env is None else extract_model(env)
        wrong = None if env is None or model is None else model_fault(env, model, problem.env_id)
        return _TriedOut(wrong, known_draws())


def _first_reset(problem: Problem, envs: VectorEnv) -> dict[str, Array]:
    """Reset an environment for the first time and return its info. Raises UsageError where it fails."""
    try:
        return envs.reset(seed=[problem.seed])[1]
    except EnvironmentFault as fault:
        raise UsageError(str(fault)) from fault


def model_fault(env: gymnasium.Env, model: TabularModel, env_id: str) -> str | None:
    """Play an environment; return in one line how its model differs from that, or None if it doesn't."""
    found = find_new_disagreement(env, model)
    return None if found is None else f"the model of {env_id} is not what it plays: {found}"

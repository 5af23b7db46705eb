"""The learner around SB3's `learn()`: its environments and its callback."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rl_lab.agent import Policy
from rl_lab.checks import show_space
from rl_lab.environments.episodes import Episode
from rl_lab.environments.seeded import SeededEpisodes
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.environments.zero_based import ZeroBased, to_zero_based, zero_based
from rl_lab.problem import Problem
from rl_lab.runs.run import Run
from rl_lab.seeding import untouched_torch
from rl_lab.types import OneLineWarning, UsageError
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.trained import load_weights

from .config import refuse_observations, refuse_shape
from .denormals import flushed_denormals, refuse_flushing
from .normalising import Normaliser, normalised
from .policies import UNCHANGED, SB3DrawingPolicy, SB3Policy

OTHERS = "(the lab's own ppo and a2c take others)"

# Environments and the run ----------------------------------------------------------------------------


def make_vec_env(problem: Problem, finished: list[Episode]) -> VecEnv:
    """Make SB3's vector of the lab's environments with the lab's seeds; ended episodes are added to `finished`."""

    def make(i: int) -> gymnasium.Env:
        vector: VectorEnv = problem.make(1)
        assert isinstance(vector, SingleVector)
        env: gymnasium.Env = SeededEpisodes(vector.env, problem.seed, i, finished)
        unchanged = all(zero_based(s) is s for s in (env.observation_space, env.action_space))
        return env if unchanged else ZeroBased(env)

    return DummyVecEnv([partial(make, i) for i in range(problem.num_envs)])


class RunCallback(BaseCallback):
    """Passes SB3's episodes, metrics and step counts on to the run; it draws no random numbers."""

    def __init__(self, run: Run, policy: Policy, finished: list[Episode], normaliser: Normaliser = UNCHANGED):
        super().__init__()
        self._run, self._policy, self._finished, self._normaliser = run, policy, finished, normaliser

    def _on_step(self) -> bool:
        if self._finished:
            self.take_episodes()
        return not (self._run.due(self.num_timesteps) and self._moment())

    def take_episodes(self) -> None:
        """Pass finished episodes on to the run, now that the step count at their end is known."""
        for episode in self._finished:
            self._run.episode(replace(episode, env_steps=self.num_timesteps))
        self._finished.clear()

    def weights(self) -> dict[str, Any]:
        """Return all that acting needs: the policy's weights and the statistics of normalisation."""
        return dict(self.model.policy.state_dict()) | self._normaliser.weights()

    def _moment(self) -> bool:
        steps, run = self.num_timesteps, self._run
        with flushed_denormals(False):  # an evaluation is the same for all agents
            if run.row_due(steps):
                run.row(steps, _figures(self.model))
            return run.moment(steps, self._policy, lambda: {"weights": self.weights()})


def _figures(model: BaseAlgorithm) -> dict[str, float]:
    """Return SB3's current figures under the lab's names."""
    logged = model.logger.name_to_value
    names = {"train/loss": "loss", "train/value_loss": "value_loss", "train/entropy_loss": "entropy_loss"}
    out = {ours: float(logged[theirs]) for theirs, ours in names.items() if theirs in logged}
    if hasattr(model, "exploration_rate"):
        out["epsilon"] = float(model.exploration_rate)
    return out | {"gradient_steps": gradient_steps(model)}


def gradient_steps(model: Any) -> int:
    """Return the gradient steps taken so far. (Kinds of PPO count epochs, each of several minibatches.)"""
    updates = int(model._n_updates)
    if hasattr(model, "n_epochs"):
        return updates * -(-model.n_steps * model.n_envs // model.batch_size)
    return updates


def _start_from(model: BaseAlgorithm, normaliser: Normaliser, weights: Mapping[str, Any]) -> None:
    try:
        load_weights(model.policy, normaliser.load(weights))
    except RuntimeError as error:
        raise UsageError(f"init_from: {' '.join(str(error).split())}") from error


# The learner -----------------------------------------------------------------------------------------


class SB3:
    """Runs one of SB3's algorithms; `config` determines which one and its arguments."""

    resumes = False
    stops_early = True
    ignores_masks = True

    def __init__(self, config: Any):
        self.config, self.Config = config, type(config)

    def refuse(self, problem: Problem) -> str | None:
        """Return why SB3 can't run on this problem (one line), or None if it can."""
        space, name = problem.spec.action_space, self.config.NAME
        if not isinstance(space, self.config.ACTIONS):
            allowed = ", ".join(kind.__name__ for kind in self.config.ACTIONS)
            return f"{name} takes {allowed} actions; {problem.env_id} has {show_space(space)} {OTHERS}"
        if (reason := refuse_shape(space)) is not None:
            return f"{name} {reason}; {problem.env_id} has {show_space(space)} {OTHERS}"
        seen = problem.spec.observation_space
        if (reason := refuse_observations(seen)) is not None:
            return f"{name} {reason}; {problem.env_id} has {show_space(seen)} (the lab's own agents take it)"
        if problem.spec.has_lives:
            return f"{name} would end the episode when a life is lost (allowed: life_loss_terminates False)"
        return self.config.refuse(problem.spec) or refuse_flushing(self.config)

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Call SB3's learn() once, with a callback that reports to the run.

        Raises:
            UsageError: SB3 refuses the environment or its arguments, or init_from doesn't fit.
        """
        if problem.spec.has_mask:
            line = f"{self.config.NAME} ignores action masks and may act illegally"
            warnings.warn(line, OneLineWarning, stacklevel=2)
        finished: list[Episode] = []
        envs = normalised(make_vec_env(problem, finished), self.config)
        normaliser = Normaliser(envs)
        model = self.make_model(problem, envs)
        if problem.initial_weights is not None:
            _start_from(model, normaliser, problem.initial_weights)
        policy = self.config.ACTS(model.policy, problem.spec, normaliser)
        callback = RunCallback(run, policy, finished, normaliser)
        model.set_logger(
            Logger(None, [])
        )  # SB3's default leaves an empty folder in the system's temporary folder
        run.start_clock()
        with closing(envs), flushed_denormals(self.config.flush_denormals):
            model.learn(problem.total_steps, callback=callback)
        if not run.stopped:
            callback.take_episodes()
            results = {"flush_denormals": self.config.flush_denormals}
            results |= {"ignored_masks": True} if problem.spec.has_mask else {}
            weights = {"weights": callback.weights()}
            run.finish(model.num_timesteps, policy, weights, gradient_steps(model), results)
        return policy

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy with stored weights, which are plain tensors; SB3's pickled files are never read."""
        policy, normaliser = self._loaded(problem, weights)
        return self.config.ACTS(policy, problem.spec, normaliser)

    def read_model_file(
        self, problem: Problem, path: Path, algorithm: str | None = None, statistics: Path | None = None
    ) -> tuple[Policy, str]:
        """Return the policy of a file that SB3 saved, which acts deterministically, and the name of its algorithm.

        The pickles in the files are run: call it only if a person says that they trust the files. It serves all of
        SB3's and sb3-contrib's algorithms, whichever this learner is.

        Args:
            problem: where the policy will act.
            path: a .zip that SB3 saved.
            algorithm: such as "dqn"; None: as the file tells.
            statistics: a file that `VecNormalize.save` wrote; None for none.

        Raises:
            UsageError: a file can't be read, or isn't of this algorithm, or the policy doesn't fit the environment.
        """
        from .model_files import read_policy

        with untouched_torch(), closing(make_vec_env(problem, [])) as envs:
            return read_policy(
                path, problem.spec, envs, algorithm=algorithm, statistics=statistics, device=problem.device
            )

    def exploring(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy from which SB3 draws actions when it collects; DQN's is greedy but for its epsilon."""
        policy, normaliser = self._loaded(problem, weights)
        draws = hasattr(policy, "get_distribution") and isinstance(problem.spec.action_space, spaces.Discrete)
        acts = SB3DrawingPolicy if draws and self.config.ACTS is SB3Policy else self.config.ACTS
        return acts(policy, problem.spec, normaliser)

    def function_class(self, problem: Problem, weights: dict[str, Any]) -> NetworkClass | None:
        """Return the policies that such a network can express; None unless actions and observations are simple.

        Networks with a memory or with quantiles aren't fitted.
        """
        space = problem.spec.observation_space
        if isinstance(space, spaces.Dict) or not isinstance(problem.spec.action_space, spaces.Discrete):
            return None
        policy, normaliser = self._loaded(problem, weights)
        if self.config.ACTS is not SB3Policy or hasattr(policy, "quantile_net"):
            return None
        decides = policy.q_net if hasattr(policy, "q_net") else policy

        def scores(network: Any, obs: torch.Tensor) -> torch.Tensor:
            zero_based = to_zero_based(space, obs.cpu().numpy())
            seen, _ = policy.obs_to_tensor(normaliser.observations(zero_based))
            return (
                network(seen) if decides is not policy else network.get_distribution(seen).distribution.logits
            )

        return NetworkClass(decides, scores)

    def _loaded(self, problem: Problem, weights: dict[str, Any]) -> tuple[Any, Normaliser]:
        """Return SB3's policy with stored weights, and what normalises its observations."""
        with closing(normalised(make_vec_env(problem, []), self.config)) as envs:
            model = self.make_model(problem, envs, for_acting=True)
        normaliser = Normaliser(envs)
        load_weights(model.policy, normaliser.load(weights))
        return model.policy, normaliser

    def make_model(self, problem: Problem, envs: VecEnv, *, for_acting: bool = False) -> BaseAlgorithm:
        """Make the algorithm; with `for_acting` its replay buffer is as small as possible.

        Raises:
            UsageError: SB3 refuses the environment or the arguments.
        """
        arguments = self.config.arguments(problem.num_envs)
        if for_acting and "buffer_size" in arguments:
            arguments |= {"buffer_size": problem.num_envs}
        kind = "Mlp" if not is_image_space(envs.observation_space) else "Cnn"
        if isinstance(envs.observation_space, spaces.Dict):
            kind = "MultiInput"
        kind += self.config.POLICY
        try:
            return self.config.ALGORITHM(kind, envs, seed=problem.seed, device=problem.device, **arguments)
        except (AssertionError, ValueError, NotImplementedError) as error:
            raise UsageError(
                f"{self.config.NAME} refuses {problem.env_id}: {' '.join(str(error).split())}"
            ) from error

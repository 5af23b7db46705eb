"""The learner around SB3's `learn()`: its environments, its callback and its policies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
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
from rl_lab.environments.zero_based import ZeroBased, from_zero_based, to_zero_based, zero_based
from rl_lab.problem import Problem
from rl_lab.runs.run import Run
from rl_lab.types import Array, Decision, EnvSpec, Obs, State, UsageError
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.trained import load_weights

from .config import refuse_observations, refuse_shape

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

    def __init__(self, run: Run, policy: Policy, finished: list[Episode]):
        super().__init__()
        self._run, self._policy, self._finished = run, policy, finished

    def _on_step(self) -> bool:
        if self._finished:
            self.take_episodes()
        return not (self._run.due(self.num_timesteps) and self._moment())

    def take_episodes(self) -> None:
        """Pass finished episodes on to the run, now that the step count at their end is known."""
        for episode in self._finished:
            self._run.episode(replace(episode, env_steps=self.num_timesteps))
        self._finished.clear()

    def _moment(self) -> bool:
        steps, run = self.num_timesteps, self._run
        if run.row_due(steps):
            run.row(steps, _figures(self.model))
        return run.moment(steps, self._policy, lambda: {"weights": _weights(self.model)})


def _figures(model: BaseAlgorithm) -> dict[str, float]:
    """Return SB3's current figures under the lab's names."""
    logged = model.logger.name_to_value
    names = {"train/loss": "loss", "train/value_loss": "value_loss", "train/entropy_loss": "entropy_loss"}
    out = {ours: float(logged[theirs]) for theirs, ours in names.items() if theirs in logged}
    if hasattr(model, "exploration_rate"):
        out["epsilon"] = float(model.exploration_rate)
    return out | {"gradient_steps": gradient_steps(model)}


def gradient_steps(model: BaseAlgorithm) -> int:
    """Return the gradient steps taken so far. (PPO itself counts epochs, each of several minibatches.)"""
    updates = int(model._n_updates)
    if isinstance(model, PPO):
        return updates * -(-model.n_steps * model.n_envs // model.batch_size)
    return updates


def _weights(model: BaseAlgorithm) -> dict[str, Any]:
    return dict(model.policy.state_dict())


def _start_from(model: BaseAlgorithm, weights: Mapping[str, Any]) -> None:
    try:
        load_weights(model.policy, weights)
    except RuntimeError as error:
        raise UsageError(f"init_from: {' '.join(str(error).split())}") from error


class SB3Policy:
    """Acts deterministically by one of SB3's policies, which see discrete spaces as beginning at 0."""

    def __init__(self, policy: Any, spec: EnvSpec):
        self._policy, self._observations, self._actions = policy, spec.observation_space, spec.action_space

    def initial_state(self, num_envs: int) -> State:
        """Return (), as these policies remember nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return SB3's deterministic actions [N, ...]; SB3 ignores the mask."""
        seen = to_zero_based(self._observations, obs)
        action = self._policy.predict(seen, deterministic=True)[0]
        return Decision(from_zero_based(self._actions, action))

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `q_values` [N, A] for DQN, `value` [N] for the others."""
        tensor, _ = self._policy.obs_to_tensor(to_zero_based(self._observations, obs))
        if hasattr(self._policy, "q_net"):
            return {"q_values": self._policy.q_net(tensor).cpu().numpy()}
        return {"value": self._policy.predict_values(tensor)[:, 0].cpu().numpy()}


class SB3DrawingPolicy(SB3Policy):
    """Draws from the distribution of one of SB3's stochastic policies over Discrete actions."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return actions [N] drawn with torch's global generator, as SB3 draws them."""
        seen = to_zero_based(self._observations, obs)
        return Decision(from_zero_based(self._actions, self._policy.predict(seen, deterministic=False)[0]))

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `value` [N] and `probabilities` [N, A]."""
        tensor, _ = self._policy.obs_to_tensor(to_zero_based(self._observations, obs))
        drawn = self._policy.get_distribution(tensor).distribution.probs
        return super().inspect(obs, state, is_first, mask) | {"probabilities": drawn.cpu().numpy()}


# The learner -----------------------------------------------------------------------------------------


class SB3:
    """Runs one of SB3's algorithms; `config` determines which one and its arguments."""

    resumes = False
    stops_early = True

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
        return self.config.refuse(problem.spec)

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Call SB3's learn() once, with a callback that reports to the run.

        Raises:
            UsageError: SB3 refuses the environment or its arguments, or init_from doesn't fit.
        """
        if problem.spec.has_mask:
            warnings.warn(f"{self.config.NAME} ignores action masks and may act illegally", stacklevel=2)
        finished: list[Episode] = []
        envs = make_vec_env(problem, finished)
        model = self.make_model(problem, envs)
        if problem.initial_weights is not None:
            _start_from(model, problem.initial_weights)
        policy = SB3Policy(model.policy, problem.spec)
        callback = RunCallback(run, policy, finished)
        model.set_logger(
            Logger(None, [])
        )  # SB3's default leaves an empty folder in the system's temporary folder
        run.start_clock()
        with closing(envs):
            model.learn(problem.total_steps, callback=callback)
        if not run.stopped:
            callback.take_episodes()
            run.finish(model.num_timesteps, policy, {"weights": _weights(model)}, gradient_steps(model))
        return policy

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy with stored weights, which are plain tensors; SB3's pickled files are never read."""
        return SB3Policy(self._loaded(problem, weights), problem.spec)

    def exploring(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy from which SB3 draws actions when it collects; DQN's is greedy but for its epsilon."""
        policy = self._loaded(problem, weights)
        draws = hasattr(policy, "get_distribution") and isinstance(problem.spec.action_space, spaces.Discrete)
        return (SB3DrawingPolicy if draws else SB3Policy)(policy, problem.spec)

    def function_class(self, problem: Problem, weights: dict[str, Any]) -> NetworkClass | None:
        """Return the policies that such a network can express; None unless actions and observations are simple."""
        space = problem.spec.observation_space
        if isinstance(space, spaces.Dict) or not isinstance(problem.spec.action_space, spaces.Discrete):
            return None
        policy = self._loaded(problem, weights)
        decides = policy.q_net if hasattr(policy, "q_net") else policy

        def scores(network: Any, obs: torch.Tensor) -> torch.Tensor:
            seen, _ = policy.obs_to_tensor(to_zero_based(space, obs.cpu().numpy()))
            return (
                network(seen) if decides is not policy else network.get_distribution(seen).distribution.logits
            )

        return NetworkClass(decides, scores)

    def _loaded(self, problem: Problem, weights: dict[str, Any]) -> Any:
        """Return SB3's policy with stored weights."""
        with closing(make_vec_env(problem, [])) as envs:
            model = self.make_model(problem, envs, for_acting=True)
        load_weights(model.policy, weights)
        return model.policy

    def make_model(self, problem: Problem, envs: VecEnv, *, for_acting: bool = False) -> BaseAlgorithm:
        """Make the algorithm; with `for_acting` its replay buffer is as small as possible.

        Raises:
            UsageError: SB3 refuses the environment or the arguments.
        """
        arguments = self.config.arguments(problem.num_envs)
        if for_acting and "buffer_size" in arguments:
            arguments |= {"buffer_size": problem.num_envs}
        kind = "MlpPolicy" if not is_image_space(envs.observation_space) else "CnnPolicy"
        if isinstance(envs.observation_space, spaces.Dict):
            kind = "MultiInputPolicy"
        try:
            return self.config.ALGORITHM(kind, envs, seed=problem.seed, device=problem.device, **arguments)
        except (AssertionError, ValueError, NotImplementedError) as error:
            raise UsageError(
                f"{self.config.NAME} refuses {problem.env_id}: {' '.join(str(error).split())}"
            ) from error

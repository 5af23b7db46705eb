"""Stable-Baselines3's own algorithms with the lab's environments, seeds, evaluation and run directories.

Raffin et al. (2021), "Stable-Baselines3: Reliable Reinforcement Learning Implementations",
https://jmlr.org/papers/v22/20-1364.html

SB3's own `learn()` is called once, so the final parameters equal those of plain SB3 to the bit. These runs can't be
resumed, because SB3 can't resume exactly: its `load` seeds anew and drops the last observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import gymnasium
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rl_lab.agent import Policy
from rl_lab.checks import above, at_least, flags, show_space, widths, within
from rl_lab.environments.episodes import Episode
from rl_lab.environments.seeded import SeededEpisodes
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.problem import Problem
from rl_lab.replay.footprint import refuse_oversize
from rl_lab.replay.frames import frame_bytes
from rl_lab.runs.run import Run
from rl_lab.training.learner import built_from
from rl_lab.types import Array, Decision, EnvSpec, Obs, State, UsageError
from rl_lab.updates.trained import load_weights

# Environments and the run ----------------------------------------------------------------------------


def make_vec_env(problem: Problem, finished: list[Episode]) -> VecEnv:
    """Make SB3's vector of the lab's environments with the lab's seeds; ended episodes are added to `finished`."""

    def make(i: int) -> gymnasium.Env:
        vector: VectorEnv = problem.make(1)
        assert isinstance(vector, SingleVector)
        vector.env.env_index = i
        return SeededEpisodes(vector.env, problem.seed, i, finished)

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


def buffer_bytes(capacity: int, spec: EnvSpec) -> int:
    """Return the bytes of SB3's replay buffer, which stores both observations of a transition with full stacks."""
    rest = 8 + 3 * 4  # action; reward, done and timeout
    return capacity * (2 * frame_bytes(replace(spec, frame_stack=1)) + rest)


def _weights(model: BaseAlgorithm) -> dict[str, Any]:
    return dict(model.policy.state_dict())


def _start_from(model: BaseAlgorithm, weights: Mapping[str, Any]) -> None:
    try:
        load_weights(model.policy, weights)
    except RuntimeError as error:
        raise UsageError(f"init_from: {' '.join(str(error).split())}") from error


class SB3Policy:
    """Acts deterministically by one of SB3's policies."""

    def __init__(self, policy: Any):
        self._policy = policy

    def initial_state(self, num_envs: int) -> State:
        """Return (), as these policies remember nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return SB3's deterministic actions [N, ...]; SB3 ignores the mask."""
        return Decision(self._policy.predict(obs, deterministic=True)[0])

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `q_values` [N, A] for DQN, `value` [N] for the others."""
        tensor, _ = self._policy.obs_to_tensor(obs)
        if hasattr(self._policy, "q_net"):
            return {"q_values": self._policy.q_net(tensor).cpu().numpy()}
        return {"value": self._policy.predict_values(tensor)[:, 0].cpu().numpy()}


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
            return f"{name} takes {allowed} actions; {problem.env_id} has {show_space(space)}"
        if problem.spec.has_lives:
            return f"{name} would end the episode when a life is lost (allowed: life_loss_terminates False)"
        return self.config.refuse(problem.spec)

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Call SB3's learn() once, with a callback that reports to the run.

        Raises:
            UsageError: SB3 refuses the environment or its arguments, or init_from doesn't fit.
        """
        finished: list[Episode] = []
        envs = make_vec_env(problem, finished)
        model = self.make_model(problem, envs)
        if problem.initial_weights is not None:
            _start_from(model, problem.initial_weights)
        policy = SB3Policy(model.policy)
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
        with closing(make_vec_env(problem, [])) as envs:
            model = self.make_model(problem, envs, for_acting=True)
        load_weights(model.policy, weights)
        return SB3Policy(model.policy)

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


# Configs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DQNConfig:
    """Fields of SB3's DQN under the lab's names; the defaults are SB3's."""

    learning_rate: float = 1e-4
    """Step size of Adam."""
    gamma: float = 0.99
    """Discount per environment step."""
    batch_size: int = 32
    """Transitions per gradient step."""
    replay_capacity: int = 1_000_000
    """Transitions kept (buffer_size)."""
    learning_starts_env_steps: int = 100
    """Environment steps before the first gradient step."""
    train_period_env_steps: int = 4
    """Environment steps between updates (train_freq counts vector steps); a multiple of num_envs."""
    gradient_steps_per_update: int = 1
    """Gradient steps per update; 0 acts without learning."""
    target_period_env_steps: int = 10_000
    """Environment steps between updates of the target network; a multiple of num_envs."""
    target_tau: float = 1.0
    """Share of the way that the target moves to the online network: 1 copies it (hard), less is a soft update."""
    max_grad_norm: float = 10.0
    """Largest norm of the gradient, which is scaled down to it."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.1
    """Share of the budget over which epsilon falls linearly."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the dense layers (net_arch)."""

    NAME: ClassVar[str] = "sb3-dqn"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = DQN
    ACTIONS: ClassVar[tuple[type, ...]] = (spaces.Discrete,)

    def __post_init__(self) -> None:
        above(self, 0.0, "learning_rate", "max_grad_norm", "target_tau")
        within(self, 0.0, 1.0, "gamma", "epsilon_initial", "epsilon_final", "epsilon_fraction", "target_tau")
        at_least(self, 1, "batch_size", "replay_capacity")
        at_least(self, 1, "train_period_env_steps", "target_period_env_steps")
        at_least(self, 0, "learning_starts_env_steps", "gradient_steps_per_update")
        widths(self, "hidden")

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why SB3 can't run with these fields (one line), or None if it can."""
        # SB3 counts its periods in vector steps, so only multiples of num_envs can be expressed exactly.
        for name in ("train_period_env_steps", "target_period_env_steps"):
            if getattr(self, name) % spec.num_envs:
                return f"{name} {getattr(self, name)} must be a multiple of num_envs {spec.num_envs} with sb3-dqn"
        if spec.observation_space.shape is None:
            return None
        return refuse_oversize(self.replay_capacity, spec.num_envs, lambda n: buffer_bytes(n, spec))

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        return {
            "learning_rate": self.learning_rate,
            "gamma": self.gamma,
            "batch_size": self.batch_size,
            "buffer_size": self.replay_capacity,
            "learning_starts": self.learning_starts_env_steps,
            "train_freq": self.train_period_env_steps // num_envs,  # in vector steps
            "gradient_steps": self.gradient_steps_per_update,
            "target_update_interval": self.target_period_env_steps,  # SB3 itself divides it by num_envs
            "tau": self.target_tau,
            "max_grad_norm": self.max_grad_norm,
            "exploration_initial_eps": self.epsilon_initial,
            "exploration_final_eps": self.epsilon_final,
            "exploration_fraction": self.epsilon_fraction,
            "policy_kwargs": {"net_arch": list(self.hidden)},
        }


@dataclass(frozen=True)
class OnPolicyConfig:
    """Fields that SB3's PPO and A2C share."""

    learning_rate: float = 3e-4
    """Step size at the start."""
    linear_decay: bool = False
    """Let the step size (and PPO's clip range) fall linearly to 0 over the budget."""
    gamma: float = 0.99
    """Discount per environment step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    n_steps: int = 2048
    """Vector steps of a rollout."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient, which is scaled down to it."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the dense layers of policy and value (net_arch)."""

    ACTIONS: ClassVar[tuple[type, ...]] = (
        spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary
    )  # fmt: skip

    def __post_init__(self) -> None:
        above(self, 0.0, "learning_rate", "max_grad_norm")
        within(self, 0.0, 1.0, "gamma", "gae_lambda")
        at_least(self, 1, "n_steps")
        at_least(self, 0, "ent_coef", "vf_coef")
        widths(self, "hidden")
        flags(self, "linear_decay")

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return None: every problem is accepted."""
        return None

    def _decaying(self, value: float) -> Any:
        return (lambda remaining: remaining * value) if self.linear_decay else value

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        names = ("gamma", "gae_lambda", "n_steps", "ent_coef", "vf_coef", "max_grad_norm")
        return {name: getattr(self, name) for name in names} | {
            "learning_rate": self._decaying(self.learning_rate),
            "policy_kwargs": {"net_arch": list(self.hidden)},
        }


@dataclass(frozen=True)
class PPOConfig(OnPolicyConfig):
    """Fields of SB3's PPO; the defaults are SB3's."""

    batch_size: int = 64
    """Steps of a minibatch."""
    n_epochs: int = 10
    """Passes over a rollout."""
    clip_range: float = 0.2
    """Bound on the probability ratio's distance from 1."""

    NAME: ClassVar[str] = "sb3-ppo"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = PPO

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "n_epochs")
        at_least(self, 2, "batch_size")
        above(self, 0.0, "clip_range")

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        return super().arguments(num_envs) | {
            "batch_size": self.batch_size,
            "n_epochs": self.n_epochs,
            "clip_range": self._decaying(self.clip_range),
        }


@dataclass(frozen=True)
class A2CConfig(OnPolicyConfig):
    """Fields of SB3's A2C; the defaults are SB3's."""

    learning_rate: float = 7e-4
    """Step size of RMSprop at the start."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation; 1 is the plain return."""
    n_steps: int = 5
    """Vector steps of a rollout."""

    NAME: ClassVar[str] = "sb3-a2c"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = A2C


@built_from(DQNConfig)
def build_dqn(config: DQNConfig) -> SB3:
    """Run Stable-Baselines3's DQN with the lab's seeds and run directories; Discrete actions."""
    return SB3(config)


@built_from(PPOConfig)
def build_ppo(config: PPOConfig) -> SB3:
    """Run Stable-Baselines3's PPO with the lab's seeds and run directories."""
    return SB3(config)


@built_from(A2CConfig)
def build_a2c(config: A2CConfig) -> SB3:
    """Run Stable-Baselines3's A2C with the lab's seeds and run directories."""
    return SB3(config)

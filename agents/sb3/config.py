"""The fields of SB3's algorithms under the lab's names, and what they can't take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space

from rl_lab.checks import above, at_least, flags, show_space, widths, within
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.replay.footprint import refuse_batch, refuse_oversize
from rl_lab.replay.frames import frame_bytes
from rl_lab.types import EnvSpec

from .policies import SB3Policy


def buffer_bytes(capacity: int, spec: EnvSpec) -> int:
    """Return the bytes of SB3's replay buffer, which stores both observations of a transition with full stacks."""
    rest = 8 + 3 * 4  # action; reward, done and timeout
    return capacity * (2 * frame_bytes(replace(spec, frame_stack=1)) + rest)


MOST_VALUES = 1_000_000
SMALLEST_IMAGE = 36  # in pixels, of the convolutions (NatureCNN) that SB3 puts before every image


def refuse_observations(space: spaces.Space) -> str | None:
    """Return what SB3 takes instead of such observations (a few words), or None if it takes them."""
    if isinstance(space, spaces.Dict):
        if any(isinstance(part, spaces.Dict | spaces.Tuple) for part in space.spaces.values()):
            return "takes Dict observations without parts of parts"
        return next(filter(None, map(refuse_observations, space.spaces.values())), None)
    if isinstance(space, spaces.Tuple):
        return "takes Dict observations, but not Tuple"
    if isinstance(space, spaces.Discrete) and space.n > MOST_VALUES:
        return f"takes Discrete observations of up to {MOST_VALUES} values, as one-hot vectors"
    if isinstance(space, spaces.Box) and not space.shape:
        return "takes Box observations of at least one axis"
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim != 1:
        return "takes MultiDiscrete observations of one axis"
    if isinstance(space, spaces.Box) and is_image_space(space) and min(_sides(space.shape)) < SMALLEST_IMAGE:
        return f"takes images of at least {SMALLEST_IMAGE}x{SMALLEST_IMAGE}"
    return None


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the height and width of an image as SB3 sees it: its channels are the axis that is the shortest."""
    return shape[1:] if int(np.argmin(shape)) == 0 else shape[:2]


def refuse_shape(space: spaces.Space) -> str | None:
    """Return what SB3 asks of the action space beyond its type (a few words), or None if the space is as it asks."""
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim != 1:
        return "takes MultiDiscrete actions of one axis"
    if isinstance(space, spaces.MultiBinary) and len(space.shape) != 1:
        return "takes MultiBinary actions of one axis"
    if isinstance(space, spaces.Box) and np.dtype(space.dtype).kind != "f":
        return "takes Box actions of floats"
    return None


def decaying(value: float, falls: bool) -> Any:
    """Return a value that falls linearly to 0 over the budget as SB3 takes it: a function of the share that remains."""
    return (lambda remaining: remaining * value) if falls else value


@dataclass(frozen=True)
class SharedConfig:
    """Fields that all of SB3's algorithms have, under the lab's names."""

    learning_rate: float = 3e-4
    """Step size at the start."""
    gamma: float = 0.99
    """Discount per environment step."""
    max_grad_norm: float = 0.5
    """Largest norm of the gradient, which is scaled down to it."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the dense layers (net_arch), of the policy and the value alike."""
    normalise_observations: bool = False
    """Normalise observations by their running mean and variance (VecNormalize)."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return when learning (VecNormalize)."""
    flush_denormals: bool = False
    """Take subnormal numbers for 0 in learn() (torch.set_flush_denormal): faster, with other last bits; not in
    evaluations."""

    NAME: ClassVar[str]
    ALGORITHM: ClassVar[type[BaseAlgorithm]]
    ACTIONS: ClassVar[tuple[type, ...]]  # spaces that the algorithm takes
    ACTS: ClassVar[type[SB3Policy]] = SB3Policy  # how a policy of the algorithm acts
    POLICY: ClassVar[str] = (
        "Policy"  # ends the names of the algorithm's policies, after Mlp, Cnn or MultiInput
    )
    FIXED: ClassVar[Mapping[str, Any]] = {}  # what SB3 always does, as values of the lab's fields

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        above(self, 0.0, "learning_rate", "max_grad_norm")
        within(self, 0.0, 1.0, "gamma")
        widths(self, "hidden")
        flags(self, "normalise_observations", "normalise_rewards", "flush_denormals")

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why SB3 can't run with these fields (one line), or None if it can."""
        seen = spec.observation_space
        if self.normalise_observations and (not isinstance(seen, spaces.Box) or is_image_space(seen)):
            return (
                f"normalise_observations with {self.NAME} takes vectors; {spec.env_id} has {show_space(seen)}"
                " (allowed: normalise_observations False)"
            )
        return None

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field, as SB3 keeps them with these arguments.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions.
        """
        return {}

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        names = ("learning_rate", "gamma", "max_grad_norm")
        return {name: getattr(self, name) for name in names} | {
            "policy_kwargs": {"net_arch": list(self.hidden)}
        }


@dataclass(frozen=True)
class OffPolicyConfig(SharedConfig):
    """Fields that DQN and QR-DQN share; the defaults are those of SB3's DQN."""

    learning_rate: float = 1e-4
    """Step size of Adam."""
    max_grad_norm: float = 10.0
    """Largest norm of the gradient, which is scaled down to it."""
    batch_size: int = 32
    """Transitions per gradient step."""
    replay_capacity: int = 1_000_000
    """Transitions kept (buffer_size)."""
    learning_starts_env_steps: int = 100
    """Environment steps before the first gradient step; if below batch_size, batches repeat some."""
    train_period_env_steps: int = 4
    """Environment steps between updates (train_freq counts vector steps); a multiple of num_envs."""
    gradient_steps_per_update: int = 1
    """Gradient steps per update; 0 acts without learning."""
    target_period_env_steps: int = 10_000
    """Environment steps between updates of the target network; a multiple of num_envs."""
    target_tau: float = 1.0
    """Share of the way that the target moves to the online network: 1 copies it (hard), less is a soft update."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.1
    """Share of the budget over which epsilon falls linearly."""

    ACTIONS: ClassVar[tuple[type, ...]] = (spaces.Discrete,)
    FIXED: ClassVar[Mapping[str, Any]] = {
        "double": False, "dueling": False, "n_steps": 1, "prioritised": False, "loss": "huber", "reward_clip": None,
        "value_rescaling": False, "optimiser": "adam", "adam_epsilon": None, "activation": "relu",
        "initialisation": "default", "epsilon_waits": False, "layer_norm": False, "memory": "none",
        "average_decay": 0.0, "target_period_updates": None, "max_grad_value": None,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        super().__post_init__()
        above(self, 0.0, "target_tau")
        within(self, 0.0, 1.0, "epsilon_initial", "epsilon_final", "epsilon_fraction", "target_tau")
        at_least(self, 1, "batch_size", "replay_capacity")
        at_least(self, 1, "train_period_env_steps", "target_period_env_steps")
        at_least(self, 0, "learning_starts_env_steps", "gradient_steps_per_update")

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why SB3 can't run with these fields (one line), or None if it can."""
        if (reason := super().refuse(spec)) is not None:
            return reason
        # SB3 counts its periods in vector steps, so only multiples of num_envs can be expressed exactly.
        for name in ("train_period_env_steps", "target_period_env_steps"):
            if getattr(self, name) % spec.num_envs:
                return f"{name} {getattr(self, name)} must be a multiple of num_envs {spec.num_envs} with {self.NAME}"
        if (reason := refuse_batch(self.batch_size, self.replay_capacity)) is not None:
            return reason
        if spec.observation_space.shape is None:
            return None
        return refuse_oversize(self.replay_capacity, spec.num_envs, lambda n: buffer_bytes(n, spec))

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        return super().arguments(num_envs) | {
            "batch_size": self.batch_size,
            "buffer_size": self.replay_capacity,
            "learning_starts": self.learning_starts_env_steps,
            "train_freq": self.train_period_env_steps // num_envs,  # in vector steps
            "gradient_steps": self.gradient_steps_per_update,
            "target_update_interval": self.target_period_env_steps,  # SB3 itself divides it by num_envs
            "tau": self.target_tau,
            "exploration_initial_eps": self.epsilon_initial,
            "exploration_final_eps": self.epsilon_final,
            "exploration_fraction": self.epsilon_fraction,
        }

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field, as SB3 keeps them with these arguments."""
        given = self.arguments(num_envs)
        calls = max(given["target_update_interval"] // num_envs, 1)  # SB3's own rule, in vector steps
        return {
            "learning_starts_env_steps": given["learning_starts"],
            "train_period_env_steps": given["train_freq"] * num_envs,
            "target_period_env_steps": calls * num_envs,
            "epsilon_fraction": given["exploration_fraction"] * total_steps,
            "n_steps": 1,  # of a return
        }


@dataclass(frozen=True)
class DQNConfig(OffPolicyConfig):
    """Fields of SB3's DQN; the defaults are SB3's."""

    NAME: ClassVar[str] = "sb3-dqn"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = DQN

    def td_rule(self) -> TDRule:
        """Return what learning minimises: SB3's DQN has the Huber loss, and no other."""
        return TDRule("huber", self.gamma, epsilon=self.epsilon_final)


@dataclass(frozen=True)
class OnPolicyConfig(SharedConfig):
    """Fields that SB3's PPO and A2C share."""

    linear_decay: bool = False
    """Let the step size (and PPO's clip range) fall linearly to 0 over the budget."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    n_steps: int = 2048
    """Vector steps of a rollout."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""

    ACTIONS: ClassVar[tuple[type, ...]] = (
        spaces.Discrete, spaces.Box, spaces.MultiDiscrete, spaces.MultiBinary
    )  # fmt: skip
    FIXED: ClassVar[Mapping[str, Any]] = {
        "optimiser": "adam", "adam_epsilon": None, "activation": "tanh", "initialisation": "orthogonal",
        "share_encoder": False, "normalise_advantages": True, "clip_range_value": None, "target_kl": None,
        "log_std_initial": 0.0, "layer_norm": False, "memory": "none", "average_decay": 0.0, "max_grad_value": None,
        "reward_clip": None,
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        super().__post_init__()
        within(self, 0.0, 1.0, "gae_lambda")
        at_least(self, 1, "n_steps")
        at_least(self, 0, "ent_coef", "vf_coef")
        flags(self, "linear_decay")

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        names = ("gae_lambda", "n_steps", "ent_coef", "vf_coef")
        own = {name: getattr(self, name) for name in names}
        return (
            super().arguments(num_envs)
            | own
            | {"learning_rate": decaying(self.learning_rate, self.linear_decay)}
        )

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field: SB3 counts rollouts in vector steps."""
        return {"n_steps": self.n_steps * num_envs}


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
            "clip_range": decaying(self.clip_range, self.linear_decay),
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
    FIXED: ClassVar[Mapping[str, Any]] = {
        **OnPolicyConfig.FIXED, "optimiser": "rmsprop-torch", "normalise_advantages": False,
    }  # fmt: skip

"""The fields of SB3's algorithms under the lab's names, and what they can't take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space

from rl_lab.checks import above, at_least, flags, widths, within
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.replay.footprint import refuse_oversize
from rl_lab.replay.frames import frame_bytes
from rl_lab.types import EnvSpec


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

    NAME: ClassVar[str]
    ALGORITHM: ClassVar[type[BaseAlgorithm]]
    ACTIONS: ClassVar[tuple[type, ...]]  # spaces that the algorithm takes

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        above(self, 0.0, "learning_rate", "max_grad_norm")
        within(self, 0.0, 1.0, "gamma")
        widths(self, "hidden")

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why SB3 can't run with these fields (one line), or None if it can."""
        return None

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        names = ("learning_rate", "gamma", "max_grad_norm")
        return {name: getattr(self, name) for name in names} | {
            "policy_kwargs": {"net_arch": list(self.hidden)}
        }


@dataclass(frozen=True)
class DQNConfig(SharedConfig):
    """Fields of SB3's DQN; the defaults are SB3's."""

    learning_rate: float = 1e-4
    """Step size of Adam."""
    max_grad_norm: float = 10.0
    """Largest norm of the gradient, which is scaled down to it."""
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
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.1
    """Share of the budget over which epsilon falls linearly."""

    NAME: ClassVar[str] = "sb3-dqn"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = DQN
    ACTIONS: ClassVar[tuple[type, ...]] = (spaces.Discrete,)

    def td_rule(self) -> TDRule:
        """Return what learning minimises: SB3's DQN has the Huber loss, and no other."""
        return TDRule("huber", self.gamma, epsilon=self.epsilon_final)

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
        # SB3 counts its periods in vector steps, so only multiples of num_envs can be expressed exactly.
        for name in ("train_period_env_steps", "target_period_env_steps"):
            if getattr(self, name) % spec.num_envs:
                return f"{name} {getattr(self, name)} must be a multiple of num_envs {spec.num_envs} with sb3-dqn"
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

    def _decaying(self, value: float) -> Any:
        return (lambda remaining: remaining * value) if self.linear_decay else value

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return SB3's arguments."""
        names = ("gae_lambda", "n_steps", "ent_coef", "vf_coef")
        own = {name: getattr(self, name) for name in names}
        return super().arguments(num_envs) | own | {"learning_rate": self._decaying(self.learning_rate)}


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

"""sb3-contrib's QR-DQN and recurrent PPO, run like SB3's own algorithms.

Dabney et al. (2018), "Distributional Reinforcement Learning with Quantile Regression",
https://arxiv.org/abs/1710.10044, for QR-DQN. Recurrent PPO is PPO with an LSTM each for the policy and the value; it
learns from padded sequences of a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from rl_lab.checks import at_least, flags, one_of, show_space
from rl_lab.training.learner import built_from
from rl_lab.types import EnvSpec

from .config import OffPolicyConfig, OnPolicyConfig, PPOConfig, decaying
from .learner import SB3
from .policies import RecurrentSB3Policy, SB3Policy

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class QRDQNConfig(OffPolicyConfig):
    """Fields of sb3-contrib's QR-DQN; the defaults are sb3-contrib's, as is Adam's epsilon, 0.01 / batch_size."""

    learning_rate: float = 5e-5
    """Step size of Adam at the start."""
    linear_decay: bool = False
    """Let the step size fall linearly to 0 over the budget."""
    max_grad_norm: float | None = None  # type: ignore[assignment]  # only QR-DQN does without
    """Largest norm of the gradient, which is scaled down to it; None: no bound."""
    n_quantiles: int = 200
    """Quantiles of the return that each action's head gives."""
    epsilon_final: float = 0.01
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.005
    """Share of the budget over which epsilon falls linearly."""

    NAME: ClassVar[str] = "sb3-qrdqn"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = QRDQN
    FIXED: ClassVar[Mapping[str, Any]] = {**OffPolicyConfig.FIXED, "loss": "quantile huber"}

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        super().__post_init__()
        at_least(self, 1, "n_quantiles")
        flags(self, "linear_decay")

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return sb3-contrib's arguments."""
        given = super().arguments(num_envs)
        given["policy_kwargs"] |= {"n_quantiles": self.n_quantiles}
        return given | {"learning_rate": decaying(self.learning_rate, self.linear_decay)}

    def in_lab_terms(self) -> dict[str, dict[str, Any]]:
        """Return the fields that `qr-dqn` has under another name, with their values there.

        Adam's epsilon goes with the size of batches.
        """
        final = 0.0 if self.linear_decay else None
        return {
            "n_quantiles": {"quantiles": self.n_quantiles},
            "linear_decay": {"learning_rate_final": final},
            "batch_size": {"batch_size": self.batch_size, "adam_epsilon": 0.01 / self.batch_size},
        }


@dataclass(frozen=True)
class RecurrentPPOConfig(PPOConfig):
    """Fields of sb3-contrib's recurrent PPO; the defaults are sb3-contrib's."""

    n_steps: int = 128
    """Vector steps of a rollout."""
    batch_size: int = 128
    """Steps of a minibatch."""
    memory_size: int = 256
    """Width of each LSTM (lstm_hidden_size)."""
    memory_layers: int = 1
    """Layers of each LSTM (n_lstm_layers)."""
    critic_memory: bool = True
    """Give the value an LSTM of its own (enable_critic_lstm); without, it sees the observation alone."""
    activation: Literal["tanh", "relu"] = "tanh"
    """Activation after each dense layer."""
    initialisation: Literal["orthogonal", "default"] = "orthogonal"
    """Initial weights: default is torch's."""

    NAME: ClassVar[str] = "sb3-recurrent-ppo"
    ALGORITHM: ClassVar[type[BaseAlgorithm]] = RecurrentPPO
    POLICY: ClassVar[str] = "LstmPolicy"
    ACTS: ClassVar[type[SB3Policy]] = RecurrentSB3Policy
    # sb3-contrib's recurrent buffer keeps the actions' dtype, and a Bernoulli distribution takes no integers.
    ACTIONS: ClassVar[tuple[type, ...]] = (spaces.Discrete, spaces.Box, spaces.MultiDiscrete)
    FIXED: ClassVar[Mapping[str, Any]] = {
        name: value
        for name, value in OnPolicyConfig.FIXED.items()
        if name not in ("activation", "initialisation")
    } | {"memory": "lstm"}

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        super().__post_init__()
        at_least(self, 1, "memory_size", "memory_layers")
        flags(self, "critic_memory")
        one_of(self, "activation", tuple(ACTIVATIONS))
        one_of(self, "initialisation", ("orthogonal", "default"))

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why SB3 can't run with these fields (one line), or None if it can."""
        if _has_multi_discrete(
            spec.observation_space
        ):  # their width is no Python int, and torch's LSTM wants one
            seen = show_space(spec.observation_space)
            return (
                f"{self.NAME} takes no MultiDiscrete observations; {spec.env_id} has {seen}"
                " (the lab's own agents take them)"
            )
        return super().refuse(spec)

    def arguments(self, num_envs: int) -> dict[str, Any]:
        """Return sb3-contrib's arguments."""
        given = super().arguments(num_envs)
        given["policy_kwargs"] |= {
            "lstm_hidden_size": self.memory_size,
            "n_lstm_layers": self.memory_layers,
            "enable_critic_lstm": self.critic_memory,
            "activation_fn": ACTIVATIONS[self.activation],
            "ortho_init": self.initialisation == "orthogonal",
        }
        return given


def _has_multi_discrete(space: spaces.Space) -> bool:
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else (space,)
    return any(isinstance(part, spaces.MultiDiscrete) for part in parts)


@built_from(QRDQNConfig)
def build_qrdqn(config: QRDQNConfig) -> SB3:
    """Run sb3-contrib's QR-DQN with the lab's seeds and run directories; Discrete actions."""
    return SB3(config)


@built_from(RecurrentPPOConfig)
def build_recurrent_ppo(config: RecurrentPPOConfig) -> SB3:
    """Run sb3-contrib's recurrent PPO (an LSTM) with the lab's seeds and run directories."""
    return SB3(config)

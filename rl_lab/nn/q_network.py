"""The Q-network (encoder, core and head behind one call) and its heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.cores import make_core
from rl_lab.nn.encoders import Encoder, dense, make_encoder
from rl_lab.nn.initialise import initialise
from rl_lab.nn.layers import Linear
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.nn.recurrent import Carry, Core, Memoryless, features_over_time


class QHead(Linear):
    """Maps features [..., size] to action values q [..., A]."""


class DuelingHead(nn.Module):
    """Computes Q = V + A - mean(A) from separate streams for V and A.

    Wang et al. (2016), "Dueling Network Architectures for Deep Reinforcement Learning",
    https://arxiv.org/abs/1511.06581.
    """

    def __init__(
        self,
        size: int,
        num_actions: int,
        hidden: Sequence[int],
        *,
        layer_norm: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
    ):
        super().__init__()
        width = hidden[-1] if hidden else size

        def stream(outputs: int) -> nn.Sequential:
            layers = dense(size, hidden, layer_norm, activation=activation, dropout=dropout)
            return nn.Sequential(*layers, Linear(width, outputs))

        self.value, self.advantage = stream(1), stream(num_actions)

    def forward(self, features: Tensor) -> Tensor:
        """Return q [..., A]."""
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(-1, keepdim=True)


class QNetwork(nn.Module):
    """Action values: `q, state = network(obs, state, is_first)`.

    With is_first [B] it takes a single step: obs [B, ...] gives q [B, A]. With is_first [T, B] it unrolls:
    obs [T, B, ...] gives q [T, B, A]. It takes the carry before the first step and returns the one after the
    last. A memoryless network needs only the observations.
    """

    def __init__(
        self, encoder: Encoder, core: Core, head: nn.Module, normaliser: ObservationNormaliser | None = None
    ):
        super().__init__()
        self.encoder, self.core = encoder, core
        self.head = head
        self.normaliser = normaliser  # of the observations

    @property
    def is_memoryless(self) -> bool:
        """Whether the values depend on the current observation alone."""
        return isinstance(self.core, Memoryless)

    def initial_state(self, batch: int) -> Carry:
        """Return the carry at the start of an episode, each part [B, ...]."""
        return self.core.initial_state(batch)

    def forward(self, obs: Any, state: Carry = (), is_first: Tensor | None = None) -> tuple[Tensor, Carry]:
        """Return action values and the next carry; see the class for shapes."""
        parts: dict[str, Any] = self._modules  # several times as fast as attribute access
        seen = obs if self.normaliser is None else self.normaliser(obs)
        features, state = features_over_time(parts["encoder"], parts["core"], seen, state, is_first)
        return parts["head"](features), state


def make_q_network(
    observation_space: spaces.Space,
    num_actions: int,
    *,
    encoder: str = "auto",
    hidden: Sequence[int] = (64, 64),
    memory: str = "none",
    memory_size: int = 64,
    dueling: bool = False,
    layer_norm: bool = False,
    memory_layers: int = 1,
    context: int = 16,
    activation: str = "relu",
    dropout: float = 0.0,
    pooling: str = "none",
    embedding_size: int | None = None,
    initialisation: str = "default",
    normalise_observations: bool = False,
) -> QNetwork:
    """Make a Q-network for an observation space.

    Args:
        dueling: use a `DuelingHead`; the last of `hidden` is then the width of both its streams.
        normalise_observations: begin with an `ObservationNormaliser`.

    The other arguments are those of `make_encoder`, `make_core` and `initialise`.

    Raises:
        UsageError: the encoder can't take the space, or a name is unknown.
    """
    shared = hidden[:-1] if dueling else hidden
    layers: dict[str, Any] = {"layer_norm": layer_norm, "activation": activation, "dropout": dropout}
    features = make_encoder(
        encoder, observation_space, shared, pooling=pooling, embedding_size=embedding_size, **layers
    )
    core = make_core(memory, features.size, memory_size, layers=memory_layers, context=context)
    head: nn.Module = QHead(core.size, num_actions)
    if dueling:
        head = DuelingHead(core.size, num_actions, hidden[-1:], **layers)
    network = QNetwork(
        features, core, head, ObservationNormaliser(observation_space) if normalise_observations else None
    )
    initialise(network, initialisation)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions

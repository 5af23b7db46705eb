"""Heads, and the network that joins encoder, core and head behind one call."""

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
    """One value per action: features [..., size] to q [..., A]."""


class DuelingHead(nn.Module):
    """Wang et al. (2016), "Dueling Network Architectures": Q = V + A - mean(A), a stream of its own for each."""

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
    """Action values behind one call: `q, state = network(obs, state, is_first)`.

    With is_first [B] it is a single step: obs [B, ...], q [B, A]. With is_first [T, B] it unrolls:
    obs [T, B, ...], q [T, B, A]. The carry is that before the first and after the last step. Without
    memory the observations alone are enough.
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
        """Say whether values depend on the observation alone."""
        return isinstance(self.core, Memoryless)

    def initial_state(self, batch: int) -> Carry:
        """Return the carry before an episode."""
        return self.core.initial_state(batch)

    def forward(self, obs: Any, state: Carry = (), is_first: Tensor | None = None) -> tuple[Tensor, Carry]:
        """Return action values and the next carry."""
        parts: dict[str, Any] = self._modules  # several times as fast as by attributes
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
    """Make a Q-network for a space; with `dueling` the last of `hidden` is the width of both streams.

    With `normalise_observations` it begins with an `ObservationNormaliser`. The other arguments are those of
    `make_encoder`, `make_core` and `initialise`.

    Raises:
        UsageError: an encoder that can't take the space, or a name that is unknown.
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

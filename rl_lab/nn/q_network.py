"""The Q-network (encoder, core and head behind one call) and its heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.cores import make_core
from rl_lab.nn.encoders import Encoder, dense, make_encoder
from rl_lab.nn.fields import NetworkFields
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

    def __init__(self, size: int, num_actions: int, fields: NetworkFields):
        super().__init__()
        width = fields.hidden[-1] if fields.hidden else size

        def stream(outputs: int) -> nn.Sequential:
            return nn.Sequential(*dense(size, fields), Linear(width, outputs))

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
        """Return the action values [B, A], or [T, B, A] where `is_first` is [T, B], and the next carry."""
        parts: dict[str, Any] = self._modules  # several times as fast as attribute access
        seen = obs if self.normaliser is None else self.normaliser(obs)
        if is_first is None and isinstance(parts["core"], Memoryless):
            return parts["head"](parts["encoder"](seen)), ()
        features, state = features_over_time(parts["encoder"], parts["core"], seen, state, is_first)
        return parts["head"](features), state


def make_q_network(
    observation_space: spaces.Space,
    num_actions: int,
    fields: NetworkFields | None = None,
    *,
    dueling: bool = False,
) -> QNetwork:
    """Make a Q-network for a space.

    Args:
        fields: the network's; by default those of `NetworkFields`.
        dueling: split the head into two streams; the last of `fields.hidden` is then the width of both.

    Raises:
        UsageError: the encoder can't take the space, or a name is unknown.
    """
    fields = fields or NetworkFields()
    shared, streams = (fields.hidden[:-1], fields.hidden[-1:]) if dueling else (fields.hidden, ())
    encoder = make_encoder(replace(fields, hidden=shared), observation_space)
    core = make_core(fields, encoder.size)
    head: nn.Module = QHead(core.size, num_actions)
    if dueling:
        head = DuelingHead(core.size, num_actions, replace(fields, hidden=streams))
    normaliser = None
    if fields.normalise_observations:
        normaliser = ObservationNormaliser(observation_space, channels=fields.channels)
    network = QNetwork(encoder, core, head, normaliser)
    initialise(network, fields.initialisation)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions

"""Heads, and the network that joins encoder, core and head behind one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.encoders import Encoder, dense, make_encoder
from rl_lab.nn.recurrent import LSTM, Carry, Memoryless, make_core


class QHead(nn.Linear):
    """One value per action: features [..., size] to q [..., A]."""


class DuelingHead(nn.Module):
    """Wang et al. (2016), "Dueling Network Architectures": Q = V + A - mean(A), a stream of its own for each."""

    def __init__(self, size: int, num_actions: int, hidden: Sequence[int], *, layer_norm: bool = False):
        super().__init__()
        width = hidden[-1] if hidden else size
        self.value = nn.Sequential(*dense(size, hidden, layer_norm), nn.Linear(width, 1))
        self.advantage = nn.Sequential(*dense(size, hidden, layer_norm), nn.Linear(width, num_actions))

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

    def __init__(self, encoder: Encoder, core: Memoryless | LSTM, head: nn.Module):
        super().__init__()
        self.encoder, self.core = encoder, core
        self.head = head

    @property
    def is_memoryless(self) -> bool:
        """Say whether values depend on the observation alone."""
        return isinstance(self.core, Memoryless)

    def initial_state(self, batch: int) -> Carry:
        """Return the carry before an episode."""
        return self.core.initial_state(batch)

    def forward(self, obs: Tensor, state: Carry = (), is_first: Tensor | None = None) -> tuple[Tensor, Carry]:
        """Return action values and the next carry."""
        if is_first is None or is_first.ndim == 1:
            if self.is_memoryless:
                return self.head(self.encoder(obs)), ()
            assert is_first is not None
            y, state = self.core(self.encoder(obs).unsqueeze(0), state, is_first.unsqueeze(0))
            return self.head(y[0]), state
        steps, batch = is_first.shape
        features = self.encoder(obs.flatten(0, 1)).unflatten(0, (steps, batch))
        y, state = self.core(features, state, is_first)
        return self.head(y), state


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
) -> QNetwork:
    """Make a Q-network for a space; with `dueling` the last of `hidden` is the width of both streams.

    Raises:
        UsageError: an encoder that can't take the space.
    """
    shared = hidden[:-1] if dueling else hidden
    features = make_encoder(encoder, observation_space, shared, layer_norm=layer_norm)
    core = make_core(memory, features.size, memory_size)
    head: nn.Module = QHead(core.size, num_actions)
    if dueling:
        head = DuelingHead(core.size, num_actions, hidden[-1:], layer_norm=layer_norm)
    network = QNetwork(features, core, head)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions

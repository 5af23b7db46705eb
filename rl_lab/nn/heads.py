"""Heads, and the network that joins encoder, core and head behind one call."""

from __future__ import annotations

from collections.abc import Sequence

from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.encoders import Encoder, make_encoder
from rl_lab.nn.recurrent import LSTM, Carry, Memoryless, make_core


class QHead(nn.Linear):
    """One value per action: features [..., size] to q [..., A]."""


class QNetwork(nn.Module):
    """Action values behind one call: `q, state = network(obs, state, is_first)`.

    With is_first [B] it is a single step: obs [B, ...], q [B, A]. With is_first [T, B] it unrolls:
    obs [T, B, ...], q [T, B, A]. The carry is that before the first and after the last step.
    """

    def __init__(self, encoder: Encoder, core: Memoryless | LSTM, num_actions: int):
        super().__init__()
        self.encoder, self.core = encoder, core
        self.head = QHead(core.size, num_actions)

    @property
    def is_memoryless(self) -> bool:
        """Say whether values depend on the observation alone."""
        return isinstance(self.core, Memoryless)

    def initial_state(self, batch: int) -> Carry:
        """Return the carry before an episode."""
        return self.core.initial_state(batch)

    def forward(self, obs: Tensor, state: Carry, is_first: Tensor) -> tuple[Tensor, Carry]:
        """Return action values and the next carry."""
        if is_first.ndim == 1:
            if self.is_memoryless:
                return self.head(self.encoder(obs)), ()
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
) -> QNetwork:
    """Make a Q-network for a space.

    Raises:
        UsageError: an encoder that can't take the space.
    """
    features = make_encoder(encoder, observation_space, hidden)
    return QNetwork(features, make_core(memory, features.size, memory_size), num_actions)

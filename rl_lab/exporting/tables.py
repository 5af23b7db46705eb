"""Tables as torch modules: action values by observation, and the actions of a solved model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.environments.table_rows import counts_in, firsts_in
from rl_lab.mdp.model import TabularModel
from rl_lab.trees import leaves_of
from rl_lab.types import Array


class ValueTable(nn.Module):
    """Looks up the values float64 [N, A] of discrete observations [N, ...], in mixed radix as the agent does."""

    q: Tensor
    first: Tensor
    weights: Tensor

    def __init__(self, q: Array, space: spaces.Space):
        super().__init__()
        counts = counts_in(space)
        assert counts is not None
        weights = np.cumprod([1, *counts[:0:-1]], dtype=np.int64)[::-1].copy()
        self.register_buffer("q", torch.from_numpy(np.array(q)))
        self.register_buffer("first", torch.tensor(firsts_in(space)))
        self.register_buffer("weights", torch.from_numpy(weights))

    def forward(self, obs: Any) -> Tensor:
        """Return the rows of the table."""
        leaves = [leaf.long() for leaf in leaves_of(obs, sort_keys=True)]
        entries = torch.cat([leaf.unsqueeze(1) if leaf.ndim == 1 else leaf.flatten(1) for leaf in leaves], 1)
        return self.q.index_select(0, ((entries - self.first) * self.weights).sum(1))


class SolvedTable(nn.Module):
    """Scores float32 [N, A] that are 1 for a solved model's action in the state that is shown, 0 for others.

    An observation that no state shows counts as that of the first state.
    """

    shown: Tensor
    scores: Tensor

    def __init__(self, model: TabularModel, actions: Array, num_actions: int):
        super().__init__()
        shown = np.asarray(model.observe(np.arange(model.num_states)))
        state_of = {row.tobytes(): s for s, row in enumerate(shown)}  # as the policy looks states up
        states = np.array(list(state_of.values()))
        self.is_index = shown.ndim == 1 and shown.dtype.kind in "iu" and shown.min() >= 0
        scores = np.eye(num_actions, dtype=np.float32)[actions[states]]
        if self.is_index:
            table = np.tile(scores[:1], (int(shown.max()) + 1, 1))
            table[shown[states]] = scores
            self.register_buffer("scores", torch.from_numpy(table))
            return
        self.register_buffer("scores", torch.from_numpy(scores))
        self.register_buffer(
            "shown", torch.from_numpy(shown[states].reshape(len(states), -1).astype(np.float64))
        )

    def forward(self, obs: Any) -> Tensor:
        """Return the scores."""
        if self.is_index:
            return self.scores.index_select(0, obs.long())
        seen = (obs.unsqueeze(1) if obs.ndim == 1 else obs.flatten(1)).double()
        differences = (seen.unsqueeze(1) - self.shown).abs().sum(2)
        return self.scores.index_select(0, differences.argmin(1))

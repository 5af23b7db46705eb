"""Cores that carry a state from step to step, and the one place where it is zeroed.

A core maps features [T, B, F], a carry of [B, ...] tensors and is_first bool [T, B] to outputs
[T, B, size] and the next carry. Acting is T = 1 of the same call.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

CORES = ("none", "lstm")
Carry = tuple[Tensor, ...]


class Memoryless(nn.Module):
    """The core that carries nothing."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def initial_state(self, batch: int) -> Carry:
        """Return ()."""
        return ()

    def forward(self, x: Tensor, state: Carry, is_first: Tensor) -> tuple[Tensor, Carry]:
        """Return the features as they are."""
        return x, ()


class LSTM(nn.Module):
    """Hochreiter & Schmidhuber (1997), "Long Short-Term Memory"; the carry is (h, c), each [B, size]."""

    def __init__(self, features: int, size: int):
        super().__init__()
        self.size = size
        self.cell = nn.LSTM(features, size)

    def initial_state(self, batch: int) -> Carry:
        """Return zeros."""
        zeros = next(self.parameters()).new_zeros(batch, self.size)
        return zeros, zeros.clone()

    def forward(self, x: Tensor, state: Carry, is_first: Tensor) -> tuple[Tensor, Carry]:
        """Unroll over T: fused where no reset falls inside, otherwise in stretches between resets."""
        outputs = []
        for start, end in _stretches(is_first):
            state = zero_where(state, is_first[start])
            y, (h, c) = self.cell(x[start:end], (state[0].unsqueeze(0), state[1].unsqueeze(0)))
            state = (h[0], c[0])
            outputs.append(y)
        return torch.cat(outputs), state


def zero_where(state: Carry, is_first: Tensor) -> Carry:
    """Zero the carry [B, ...] where an episode begins: the past has no influence, in value and in gradient."""
    keep = ~is_first
    return tuple(torch.where(keep.unsqueeze(-1), part, torch.zeros_like(part)) for part in state)


def _stretches(is_first: Tensor) -> list[tuple[int, int]]:
    """Return the [start, end) in which no environment of the batch starts anew after its first step."""
    steps = len(is_first)
    if steps == 1:
        return [(0, 1)]
    cuts = [0, *(1 + is_first[1:].any(dim=1).nonzero()[:, 0]).tolist(), steps]
    return list(pairwise(cuts))


def make_core(name: str, features: int, size: int) -> Memoryless | LSTM:
    """Make a core by name; `size` is the width of its carry."""
    return LSTM(features, size) if name == "lstm" else Memoryless(features)

"""Cores, which carry a state from step to step, and the only place where that state is zeroed.

A core maps features [T, B, F], a carry of float tensors [B, ...] and is_first bool [T, B] to outputs
[T, B, size] and the next carry. Acting makes the same call with T = 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rl_lab.nn import layers as fused
from rl_lab.trees import flatten_leading

Carry = tuple[Tensor, ...]


class Core(nn.Module):
    """The base of all cores: it zeroes the carry where an episode begins, in acting and in learning alike.

    Subclasses unroll over stretches in which no episode begins.
    """

    size: int  # width of the outputs

    def initial_state(self, batch: int) -> Carry:
        """Return the carry at the start of an episode: zeros, each part [batch, ...]."""
        raise NotImplementedError

    def unroll(self, x: Tensor, state: Carry) -> tuple[Tensor, Carry]:
        """Return outputs [T, B, size] and the next carry for features [T, B, F], without any reset."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: Carry, is_first: Tensor) -> tuple[Tensor, Carry]:
        """Return outputs [T, B, size] and the next carry, unrolling in one go or in stretches between resets."""
        if not is_first.any():
            return self.unroll(x, state)
        begins = is_first.any(dim=1).tolist()  # [T]: where an episode begins in any environment
        outputs = []
        for start, end in _stretches(begins):
            y, state = self.unroll(x[start:end], zero_where(state, is_first[start]))
            outputs.append(y)
        return torch.cat(outputs), state


class Memoryless(Core):
    """The core without a carry."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def initial_state(self, batch: int) -> Carry:
        """Return ()."""
        return ()

    def forward(self, x: Tensor, state: Carry, is_first: Tensor) -> tuple[Tensor, Carry]:
        """Return the features [T, B, F] as they are, and ()."""
        return x, ()


class Recurrent(Core):
    """A stack of torch's fused cells. The carry holds each layer's h [B, size], then (LSTM) each layer's c."""

    cell_type: type[fused.Cell]
    parts = 1  # number of tensors that each layer carries

    def __init__(self, features: int, size: int, layers: int = 1):
        super().__init__()
        self.size, self.num_layers = size, layers
        self.cell = self.cell_type(features, size, layers)  # type: ignore[arg-type]  # the base has its mode first

    def initial_state(self, batch: int) -> Carry:
        """Return zeros, each part [batch, size]."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch, self.size) for _ in range(self.parts * self.num_layers))

    def unroll(self, x: Tensor, state: Carry) -> tuple[Tensor, Carry]:
        """Return outputs [T, B, size] and the next carry for features [T, B, F], with all steps in one call."""
        n = self.num_layers
        before = [torch.stack(state[k : k + n]) if n > 1 else state[k][None] for k in range(0, len(state), n)]
        y, *after = self.cell(x, before if self.parts > 1 else before[0])  # carries are [layers, B, size]
        return y, tuple(layer for part in after for layer in part.unbind(0))


class Elman(Recurrent):
    """Elman (1990), "Finding Structure in Time": h' = tanh(W x + U h + b)."""

    cell_type = fused.RNN


class GRU(Recurrent):
    """Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", https://arxiv.org/abs/1406.1078.

    As in cuDNN the reset gate multiplies U h, not h.
    """

    cell_type = fused.GRU


class LSTM(Recurrent):
    """Hochreiter & Schmidhuber (1997), "Long Short-Term Memory". With one layer the carry is (h, c), each [B, size]."""

    cell_type = fused.LSTM
    parts = 2


def zero_where(state: Carry, is_first: Tensor) -> Carry:
    """Return the carry, parts [B, ...], zeroed where an episode begins (bool [B]); no gradient flows back there."""
    return tuple(part.masked_fill(is_first.reshape(-1, *(1,) * (part.ndim - 1)), 0.0) for part in state)


def _stretches(begins: Sequence[bool]) -> list[tuple[int, int]]:
    """Return stretches [start, end) of the steps such that episodes begin only at the first step of each."""
    cuts = [0, *(t for t, begin in enumerate(begins) if begin and t), len(begins)]
    return list(pairwise(cuts))


def features_over_time(
    encoder: Callable[[Any], Tensor], core: Core, obs: Any, state: Carry = (), is_first: Tensor | None = None
) -> tuple[Tensor, Carry]:
    """Encode observations and run them through a core; return features and the next carry.

    With is_first [B] it takes a single step: observations [B, ...] (or trees of them) give features [B, size].
    With is_first [T, B] it unrolls: [T, B, ...] gives [T, B, size]. It takes the carry before the first step and
    returns the one after the last. A memoryless core needs only observations [B, ...].
    """
    if is_first is not None and is_first.ndim == 2:
        return core(encoder(flatten_leading(obs)).view(*is_first.shape, -1), state, is_first)
    if isinstance(core, Memoryless):
        return encoder(obs), ()
    assert is_first is not None
    y, state = core(encoder(obs).unsqueeze(0), state, is_first.unsqueeze(0))
    return y[0], state

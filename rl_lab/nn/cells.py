"""torch's recurrent cells, called without the checks of their own forward: those take a third of a single step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Cell(nn.RNNBase):
    """A stack of cells that run over features [T, B, F] from a carry of [layers, B, size]."""

    function: Callable[..., tuple[Tensor, ...]]

    def forward(self, x: Tensor, carry: Any) -> tuple[Tensor, ...]:
        """Return outputs [T, B, size], then the carry's parts; an LSTM takes a list of them, the others one."""
        weights = [weight for layer in self.all_weights for weight in layer]
        return self.function(x, carry, weights, True, self.num_layers, 0.0, self.training, False, False)


class RNN(Cell, nn.RNN):  # type: ignore[misc]  # torch's also take packed sequences
    """tanh(W x + U h + b)."""

    function = staticmethod(torch.rnn_tanh)


class GRU(Cell, nn.GRU):  # type: ignore[misc]
    """Gated recurrent units."""

    function = staticmethod(torch.gru)


class LSTM(Cell, nn.LSTM):  # type: ignore[misc]
    """Long short-term memory."""

    function = staticmethod(torch.lstm)

"""torch's layers without what their own calls add: to a small pass a fifth, to the single step of a cell a third.

They take their weights from where modules hold parameters: torch's parametrisations and pruning don't go with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Linear(nn.Linear):
    """W x + b."""

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [..., out] for inputs [..., in]."""
        weights = self._parameters  # several times as fast as by attributes
        return linear(x, weights["weight"], weights["bias"])  # type: ignore[arg-type]


class Cell(nn.RNNBase):
    """A stack of cells that run over features [T, B, F] from a carry of [layers, B, size]."""

    function: Callable[..., tuple[Tensor, ...]]

    def forward(self, x: Tensor, carry: Any) -> tuple[Tensor, ...]:
        """Return outputs [T, B, size], then the carry's parts; an LSTM takes a list of them, the others one."""
        weights = [*self._parameters.values()]  # in the order of the layers
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

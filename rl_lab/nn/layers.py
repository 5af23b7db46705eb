"""torch's layers without the overhead of their own calls: a fifth of a small pass, a third of a single cell step.

They read their weights from the dictionary in which modules hold parameters, so torch's parametrisations and
pruning don't work with them.
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
        weights = self._parameters  # several times as fast as attribute access
        return linear(x, weights["weight"], weights["bias"])  # type: ignore[arg-type]


class Cell(nn.RNNBase):
    """A stack of recurrent cells that runs over features [T, B, F], starting from a carry [layers, B, size]."""

    function: Callable[..., tuple[Tensor, ...]]

    def forward(self, x: Tensor, carry: Any) -> tuple[Tensor, ...]:
        """Return outputs [T, B, size], then the parts of the next carry.

        An LSTM takes the carry as a list [h, c], the others take h alone.
        """
        weights = [*self._parameters.values()]  # in the order of the layers
        return self.function(x, carry, weights, True, self.num_layers, 0.0, self.training, False, False)


class RNN(Cell, nn.RNN):  # type: ignore[misc]  # torch's own also take packed sequences
    """Elman cells: tanh(W x + U h + b)."""

    function = staticmethod(torch.rnn_tanh)


class GRU(Cell, nn.GRU):  # type: ignore[misc]
    """Gated recurrent units."""

    function = staticmethod(torch.gru)


class LSTM(Cell, nn.LSTM):  # type: ignore[misc]
    """Long short-term memory."""

    function = staticmethod(torch.lstm)

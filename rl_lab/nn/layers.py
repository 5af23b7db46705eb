"""Building blocks of networks: torch's layers without the overhead of torch's own calls.

In a small forward pass that overhead is a fifth of the time, in the single step of a recurrent cell a third. Linear
layers and cells read their weights straight from the module's parameters, so torch's parametrisations and pruning
have no effect on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class Chain(nn.Module):
    """Layers applied one after another, as `layers`."""

    def __init__(self, layers: Sequence[nn.Module]):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Any) -> Tensor:
        """Return what the last layer makes of a batch [B, ...]."""
        layers: Any = self._modules["layers"]  # several times as fast as by attributes
        for layer in layers._modules.values():
            x = layer(x)
        return x


class Flat(nn.Module):
    """Flattens any batch [B, ...] to float32 [B, size]."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the flat vectors float32 [B, size]."""
        return obs if obs.ndim == 2 and obs.dtype == torch.float32 else obs.reshape(len(obs), -1).float()


class Dropout(nn.Module):
    """Dropout that is off until `gradients.ActiveDropout(network)` switches it on.

    Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting". Acting, target
    and averaged networks never drop, whatever the mode of nn.Module (which has to remain "training" for CUDA's
    LSTM). `.eval()` keeps it off even when switched on, and so does computing without gradients: the actions of
    double Q-learning and bootstrap values see no dropout.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability, self.active = probability, False

    def forward(self, x: Tensor) -> Tensor:
        """Return x [...]; while switched on, a random share of it is zeroed and the rest scaled up."""
        drops = self.active and self.training and torch.is_grad_enabled()
        return nn.functional.dropout(x, self.probability, drops)


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

"""Weights that follow those of another network: target networks and moving averages."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from math import prod
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def copied(network: Network) -> Network:
    """Return a copy that isn't trained by gradients.

    A GPU's recurrent cells need their weights in one piece of memory, which copying them one by one doesn't give.
    """
    copy_of = copy.deepcopy(network).requires_grad_(False)
    for part in copy_of.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return copy_of


@torch.no_grad()
def polyak_update(source: nn.Module, target: nn.Module, tau: float) -> None:
    """Move the target's weights towards the source's: target += tau * (source - target); a tau of 1 copies them.

    Buffers hold statistics instead of weights and are always copied.
    """
    into: list[Tensor] = list(target.parameters())
    out_of: list[Tensor] = list(source.parameters())
    _copy_all(zip(target.buffers(), source.buffers(), strict=True))
    if tau == 1.0:
        torch._foreach_copy_(into, out_of)
    else:
        torch._foreach_lerp_(into, out_of, tau)


def _copy_all(buffers: Iterable[tuple[Tensor, Tensor]]) -> None:
    for statistic, latest in buffers:
        statistic.copy_(latest)


class WeightAverage(Generic[Network]):
    """Exponential moving average of a network's weights over its gradient steps.

    Polyak & Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging".
    average += (1 - d) * (weights - average), where d rises to `decay` with the number t of steps taken:
    d = min(decay, (1 + t) / (10 + t)). With a decay of 0 there is no average: `network` is the network itself.
    Buffers (statistics) are copied.
    """

    def __init__(self, network: Network, decay: float):
        self.decay = decay
        self.network = copied(network) if decay else network
        self._live: list[Tensor] = list(network.parameters())
        self._average: list[Tensor] = list(self.network.parameters())
        self._statistics = list(zip(self.network.buffers(), network.buffers(), strict=True))

    def follow(self, taken: int, steps: int) -> None:
        """Update the average after `steps` gradient steps beyond the first `taken`.

        It sees only the weights after the last of these steps, and counts them for all of them.
        """
        if self.decay:
            decays = (min(self.decay, (1 + t) / (10 + t)) for t in range(taken, taken + steps))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._live, 1 - prod(decays))
            _copy_all(self._statistics)

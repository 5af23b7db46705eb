"""Regularisation of weights: L1 and L2 penalties, and decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def decay_weights(parameters: Iterable[Tensor], learning_rate: float, decay: float) -> None:
    """Shrink weights of any shapes independently of the gradient, in place: w *= 1 - learning_rate * decay.

    Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", https://arxiv.org/abs/1711.05101.
    """
    torch._foreach_mul_(list(parameters), 1 - learning_rate * decay)


def penalised(network: nn.Module) -> list[Tensor]:
    """Return the weights of a network that penalties shrink: no biases, no gains, and not the size of learned noise."""
    named = ((name.rpartition(".")[2], p) for name, p in network.named_parameters())
    return [
        p for name, p in named if p.ndim > 1 and name.startswith("weight") and not name.endswith("_sigma")
    ]


def regularise(
    optimiser: torch.optim.Optimizer,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    only: Iterable[Tensor] | None = None,
) -> None:
    """Make each step of an optimiser first add the penalties' gradients and apply decoupled decay.

    This happens after any clipping, which sees only the loss's gradient. Updates that are compiled as a whole don't
    call `step` and therefore have no penalties.

    Args:
        l1: strength of the L1 penalty.
        l2: strength of the L2 penalty.
        weight_decay: share of the weights, times the step size, subtracted at each step.
        only: the parameters that have penalties and decay; None: all.
    """
    if not (l1 or l2 or weight_decay):
        return
    chosen = None if only is None else {id(parameter) for parameter in only}

    @torch.no_grad()
    def before_step(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimiser.param_groups:
            held = [p for p in group["params"] if p.grad is not None and (chosen is None or id(p) in chosen)]
            for p in held:
                p.grad.add_(l1 * p.sign() + l2 * p)
            decay_weights(held, group["lr"], weight_decay)

    optimiser.register_step_pre_hook(before_step)

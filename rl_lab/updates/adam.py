"""Adam's arithmetic as functions of bare tensors, for updates that are compiled whole."""

from __future__ import annotations

import torch
from torch import Tensor

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
SMALLEST = torch.finfo(torch.float32).tiny


def without_subnormals(moment: Tensor) -> Tensor:
    """Return a moment with 0 in place of numbers below the smallest normal one.

    Averages of the gradients of a weight that gets none any more (behind a dead unit) shrink to a few of float32's
    smallest steps, where rounding holds them for good; processors take many times as long for such numbers.
    """
    return torch.where(moment.abs() < SMALLEST, 0.0, moment)


def adam_moments(optimiser: torch.optim.Optimizer) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return Adam's averages, squares and step counts, one for each parameter; zeros before its first step."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for p in parameters:
        if not optimiser.state[p]:
            zeros = torch.zeros_like(p, memory_format=torch.preserve_format).detach()
            optimiser.state[p] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    state = [optimiser.state[p] for p in parameters]
    return [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [s["step"] for s in state]


def adam_coefficients(optimiser: torch.optim.Optimizer, taken: int, steps: int) -> Tensor:
    """Return (step size, correction of the squares' root) for each of the `steps` after `taken`: [steps, 2]."""
    group = optimiser.param_groups[0]
    beta1, beta2 = group["betas"]
    rows = [
        (group["lr"] / (1 - beta1**t), (1 - beta2**t) ** 0.5) for t in range(taken + 1, taken + steps + 1)
    ]
    return torch.tensor(rows)


def adam_step(
    weight: Tensor,
    gradient: Tensor,
    average: Tensor,
    square: Tensor,
    coefficient: Tensor,
    sound: Tensor,
    epsilon: float = ADAM_EPSILON,
) -> None:
    """Move a weight, its average and its squares in place by Adam; where not `sound`, nothing moves."""
    new_average = without_subnormals(average * ADAM_BETAS[0] + gradient * (1 - ADAM_BETAS[0]))
    new_square = without_subnormals(square * ADAM_BETAS[1] + gradient.square() * (1 - ADAM_BETAS[1]))
    moved = weight - coefficient[0] * new_average / (new_square.sqrt() / coefficient[1] + epsilon)
    weight.copy_(torch.where(sound, moved, weight))
    average.copy_(torch.where(sound, new_average, average))
    square.copy_(torch.where(sound, new_square, square))

"""Adam's arithmetic as functions of plain tensors, for updates that are compiled as a whole.

Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980.
"""

from __future__ import annotations

import torch
from torch import Tensor

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


def without_subnormals(moment: Tensor) -> Tensor:
    """Return a moment [...] with subnormal numbers replaced by 0.

    Once a weight no longer receives gradients (behind a dead unit), its moments decay until they are subnormal, and
    rounding keeps them there for good. Processors take many times as long to compute with such numbers.
    """
    return torch.where(moment.abs() < SMALLEST_NORMAL, 0.0, moment)


def adam_moments(optimiser: torch.optim.Optimizer) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return Adam's averages, squares and step counts, one of each for every parameter.

    Before the first step they are created as zeros. Averages and squares have their parameter's shape, counts are [].
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for p in parameters:
        if not optimiser.state[p]:
            zeros = torch.zeros_like(p, memory_format=torch.preserve_format).detach()
            optimiser.state[p] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    state = [optimiser.state[p] for p in parameters]
    return [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [s["step"] for s in state]


def adam_coefficients(optimiser: torch.optim.Optimizer, taken: int, steps: int) -> Tensor:
    """Return the step size and the bias correction of the squares' root for each of the next `steps`: [steps, 2].

    Args:
        taken: steps taken before.
    """
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
    valid: Tensor,
    epsilon: float = ADAM_EPSILON,
) -> None:
    """Take a step on one weight, in place, together with its average and its square.

    Args:
        weight: [...]; gradient, average and square have the same shape.
        coefficient: one row of `adam_coefficients`, [2].
        valid: bool []; if it is False, nothing changes.
    """
    new_average = without_subnormals(average * ADAM_BETAS[0] + gradient * (1 - ADAM_BETAS[0]))
    new_square = without_subnormals(square * ADAM_BETAS[1] + gradient.square() * (1 - ADAM_BETAS[1]))
    moved = weight - coefficient[0] * new_average / (new_square.sqrt() / coefficient[1] + epsilon)
    weight.copy_(torch.where(valid, moved, weight))
    average.copy_(torch.where(valid, new_average, average))
    square.copy_(torch.where(valid, new_square, square))

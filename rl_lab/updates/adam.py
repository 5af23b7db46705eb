"""Adam's arithmetic as functions of plain tensors, for updates that are compiled as a whole, and its rectified form.

Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", https://arxiv.org/abs/1412.6980; Liu et al. (2020),
"On the Variance of the Adaptive Learning Rate and Beyond" (RAdam), https://arxiv.org/abs/1908.03265.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

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
            count = torch.zeros((), device=p.device)
            optimiser.state[p] = {"step": count, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    state = [optimiser.state[p] for p in parameters]
    return [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [s["step"] for s in state]


def adam_coefficients(optimiser: torch.optim.Optimizer, taken: int, steps: int) -> Tensor:
    """Return what `adam_step` needs for each of the next `steps`: [steps, 3].

    A row is the step size with the correction of the average's bias, the correction of the squares' root, and epsilon.

    Args:
        taken: steps taken before.
    """
    group = optimiser.param_groups[0]
    beta1, beta2 = group["betas"]
    rows = [
        (group["lr"] / (1 - beta1**t), (1 - beta2**t) ** 0.5) for t in range(taken + 1, taken + steps + 1)
    ]
    if isinstance(optimiser, RectifiedAdam):
        rows = [optimiser.coefficients(rate, root, t) for t, (rate, root) in enumerate(rows, start=taken + 1)]
    return torch.tensor([(*row, group["eps"]) for row in rows])


def adam_step(
    weight: Tensor,
    gradient: Tensor,
    average: Tensor,
    square: Tensor,
    coefficient: Tensor,
    valid: Tensor,
) -> None:
    """Take a step on one weight, in place, together with its average and its square.

    Args:
        weight: [...]; gradient, average and square have the same shape.
        coefficient: one row of `adam_coefficients`, [3].
        valid: bool []; if it is False, nothing changes.
    """
    new_average = without_subnormals(average * ADAM_BETAS[0] + gradient * (1 - ADAM_BETAS[0]))
    new_square = without_subnormals(square * ADAM_BETAS[1] + gradient.square() * (1 - ADAM_BETAS[1]))
    moved = weight - coefficient[0] * new_average / (new_square.sqrt() / coefficient[1] + coefficient[2])
    weight.copy_(torch.where(valid, moved, weight))
    average.copy_(torch.where(valid, new_average, average))
    square.copy_(torch.where(valid, new_square, square))


class RectifiedAdam(torch.optim.Optimizer):
    """RAdam: Adam whose step size is scaled down at first, while its mean of squares rests on few gradients.

    As in optax, epsilon is added to the root after the correction of its bias; torch's RAdam adds it before, and takes
    several times as long. The first steps, for which the variance of the mean can't be told, are plain momentum.
    """

    TRACTABLE = 5  # length of the average above which there is a variance

    def __init__(self, parameters: Iterable[Tensor], lr: float, epsilon: float = ADAM_EPSILON):
        # "fused" makes torch keep the counts of a loaded state beside their parameters
        super().__init__(parameters, {"lr": lr, "betas": ADAM_BETAS, "eps": epsilon, "fused": True})

    @classmethod
    def rectification(cls, step: int) -> float | None:
        """Return what the size of the given step (counted from 1) is scaled by; None: it is plain momentum."""
        beta = ADAM_BETAS[1]
        most = 2 / (1 - beta) - 1
        length = most - 2 * step * beta**step / (1 - beta**step)  # of the average of squares
        if length <= cls.TRACTABLE:
            return None
        shares = [(rho - 4) * (rho - 2) / rho for rho in (length, most)]
        return (shares[0] / shares[1]) ** 0.5

    def coefficients(self, rate: float, root: float, step: int) -> tuple[float, float]:
        """Return Adam's rate and root as they are for this step; for plain momentum the root is infinite."""
        if (scale := self.rectification(step)) is None:
            epsilon: float = self.param_groups[0]["eps"]
            return rate * epsilon, float("inf")  # divided by epsilon in the end
        return rate * scale, root

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step."""
        group, (averages, squares, counts) = self.param_groups[0], adam_moments(self)
        parameters, (beta1, beta2) = group["params"], group["betas"]
        gradients, taken = [p.grad for p in parameters], int(counts[0]) + 1
        torch._foreach_add_(counts, 1)
        if (scale := self.rectification(taken)) is not None:
            torch._fused_adam_(
                parameters, gradients, averages, squares, [], counts, lr=group["lr"] * scale, beta1=beta1,
                beta2=beta2, weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=False,
            )  # fmt: skip
            return
        torch._foreach_lerp_(averages, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        torch._foreach_add_(parameters, averages, alpha=-group["lr"] / (1 - beta1**taken))

"""Gradient steps on an actor-critic network: eagerly, or each compiled as one function.

Both ways give the same numbers up to rounding, and both leave the weights as they are where a loss or
gradient isn't finite, or where the policy has gone too far from the one that acted.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from rl_lab.trees import leaves_of
from rl_lab.updates.adam import adam_coefficients, adam_moments, adam_step
from rl_lab.updates.compiling import bare_weights, calling, compiled, kind_of
from rl_lab.updates.gradients import (
    Clip,
    Dropping,
    bounded_gradients,
    differentiate,
    settle_moments,
)
from rl_lab.updates.minibatches import Minibatch
from rl_lab.updates.optimisers import POLICY_ADAM_EPSILON
from rl_lab.updates.policy_losses import FIGURES, Objective

KL = FIGURES.index("approx_kl")


class Taken(NamedTuple):
    """What a gradient step found."""

    figures: list[float]  # FIGURES, then the norm of the gradient before it was scaled
    moved: bool  # False: the policy had gone too far already


class PolicyUpdates:
    """Takes gradient steps on a network.

    Args:
        compile_as: what decides the network's structure, to compile once for all alike; None: eager.
            Compiled steps are those of `policy_adam`.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        clip: Clip,
        compile_as: Hashable | None = None,
    ):
        self.network, self.objective, self.optimiser = network, objective, optimiser
        self._clip, self._dropping = clip, Dropping(network)
        self._parameters = list(network.parameters())
        self._weights = bare_weights(network)  # changed in place
        self._compile_as = None
        if compile_as is not None:
            self._compile_as = ("policy", compile_as, kind_of(self._weights), objective, self._clip)

    def __call__(self, batch: Minibatch, clip_range: float, max_kl: float, number: int) -> Taken:
        """Take gradient step `number` unless the approximate KL divergence is beyond `max_kl`.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; the weights are as before.
        """
        step = self._eager if self._compile_as is None else self._compiled_step
        figures = step(batch, clip_range, max_kl)
        if not all(map(_is_finite, (figures[0], figures[-1]))):
            raise FloatingPointError(
                f"loss {figures[0]}, gradient norm {figures[-1]} at gradient step {number}"
            )
        settle_moments(self.optimiser, number)
        return Taken(figures, figures[KL] <= max_kl)

    def _eager(self, batch: Minibatch, clip_range: float, max_kl: float) -> list[float]:
        clip = torch.as_tensor(clip_range, device=batch.log_prob.device)
        with self._dropping:
            loss, figures = self.objective(self.network, batch, clip)
        norm = differentiate(loss, self._parameters, self._clip)
        found = torch.cat([figures, norm.detach()[None]]).tolist()
        if _is_finite(found[0]) and _is_finite(found[-1]) and found[KL] <= max_kl:
            self.optimiser.step()
        return found

    def _compiled_step(self, batch: Minibatch, clip_range: float, max_kl: float) -> list[float]:
        averages, squares, counts = adam_moments(self.optimiser)
        coefficient = adam_coefficients(self.optimiser, int(counts[0]), 1)[0]
        bounds = torch.tensor([clip_range, max_kl])
        trees = self._weights, tuple(averages), tuple(squares), coefficient, bounds, batch
        function = partial(step_in_place, self.network, self.objective, self._clip)
        step = compiled((self._compile_as, kind_of(batch)), function, *trees)
        found = step(leaves_of(trees))[0].tolist()
        if found[KL] <= max_kl and _is_finite(found[0]) and _is_finite(found[-1]):
            torch._foreach_add_(counts, 1)
        return found


def _is_finite(x: float) -> bool:
    return -float("inf") < x < float("inf")


def step_in_place(
    network: nn.Module,
    objective: Objective,
    clip: Clip,
    weights: dict[str, Tensor],
    averages: tuple[Tensor, ...],
    squares: tuple[Tensor, ...],
    coefficient: Tensor,
    bounds: Tensor,
    batch: Minibatch,
) -> tuple[Tensor]:
    """Take a step with Adam on `weights`, in place; return FIGURES and the gradient's norm, [7] alone."""

    def of(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return objective(cast(Any, calling(network, weights)), batch, bounds[0])

    gradients, figures = torch.func.grad(of, has_aux=True)(weights)
    norm = bounded_gradients(gradients, clip)
    sound = torch.isfinite(figures[0]) & torch.isfinite(norm) & (figures[KL] <= bounds[1])
    for name, average, square in zip(weights, averages, squares, strict=True):
        adam_step(weights[name], gradients[name], average, square, coefficient, sound, POLICY_ADAM_EPSILON)
    return (torch.cat([figures, norm.unsqueeze(0)]),)


# Optimisers ------------------------------------------------------------------------------------------

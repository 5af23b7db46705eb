"""Gradient steps on an actor-critic network, either eager or each compiled into one function.

Both give the same numbers up to rounding. Both leave the weights unchanged if a loss or gradient isn't finite, or
if the policy has moved too far from the one that acted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from rl_lab.trees import leaves_of
from rl_lab.updates.adam import adam_coefficients, adam_moments, adam_step
from rl_lab.updates.compiling import CompiledCall, bare_weights, compiled, never, signature_of, with_weights
from rl_lab.updates.gradients import (
    ActiveDropout,
    Clip,
    clip_named_gradients,
    differentiate,
    flush_subnormals,
)
from rl_lab.updates.minibatches import Minibatch
from rl_lab.updates.policy_losses import FIGURES, Objective

KL = FIGURES.index("approx_kl")


class StepResult(NamedTuple):
    """The figures of a gradient step, and whether it was taken."""

    figures: list[float]  # FIGURES, then the norm of the gradient before scaling
    moved: bool  # False: the policy had already moved too far, so the weights are unchanged


class PolicyUpdates:
    """Takes gradient steps on a network.

    Args:
        compile_key: identifies the network's structure, so that equal networks share compiled code; None: eager.
            Compiled steps assume that the optimiser is Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Objective,
        optimiser: torch.optim.Optimizer,
        clip: Clip,
        compile_key: Hashable | None = None,
    ):
        self.network, self.objective, self.optimiser = network, objective, optimiser
        self._clip, self._active_dropout = clip, ActiveDropout(network)
        self._parameters = list(network.parameters())
        self._weights = bare_weights(network)  # stay valid, as weights are changed in place
        self._compile_key = None
        if compile_key is not None:
            self._compile_key = ("policy", compile_key, signature_of(self._weights), objective, self._clip)

    def __call__(self, batch: Minibatch, clip_range: float, max_kl: float, number: int) -> StepResult:
        """Take gradient step `number` unless the approximate KL divergence exceeds `max_kl`.

        Raises:
            FloatingPointError: the loss or the gradient isn't finite; the weights are unchanged.
        """
        step = self._eager if self._compile_key is None else self._compiled_step
        figures = step(batch, clip_range, max_kl)
        if not all(map(_is_finite, (figures[0], figures[-1]))):
            raise FloatingPointError(
                f"loss {figures[0]}, gradient norm {figures[-1]} at gradient step {number}"
            )
        flush_subnormals(self.optimiser, number)
        return StepResult(figures, figures[KL] <= max_kl)

    def _eager(self, batch: Minibatch, clip_range: float, max_kl: float) -> list[float]:
        clip = torch.as_tensor(clip_range, device=batch.log_prob.device)
        with self._active_dropout:
            loss, figures = self.objective(self.network, batch, clip)
        norm = differentiate(loss, self._parameters, self._clip)
        found = torch.cat([figures, norm.detach()[None]]).tolist()
        if _is_finite(found[0]) and _is_finite(found[-1]) and found[KL] <= max_kl:
            self.optimiser.step()
        return found

    def compile(self, batch: Minibatch, should_stop: Callable[[], bool]) -> None:
        """Compile the step on minibatches like this one, unless steps are eager; nothing is learned.

        Raises:
            CompilationStopped: `should_stop`, asked many times a second, said so.
        """
        if self._compile_key is not None:
            self._function_of(self._trees(batch, 0.0, 0.0), should_stop)

    def _trees(self, batch: Minibatch, clip_range: float, max_kl: float) -> tuple[Any, ...]:
        """Return the arguments of a compiled step."""
        averages, squares, counts = adam_moments(self.optimiser)
        coefficient = adam_coefficients(self.optimiser, int(counts[0]), 1)[0]
        bounds = torch.tensor([clip_range, max_kl])
        return self._weights, tuple(averages), tuple(squares), coefficient, bounds, batch

    def _function_of(self, trees: tuple[Any, ...], should_stop: Callable[[], bool] = never) -> CompiledCall:
        """Return the compiled step; the network provides only its structure."""
        function = partial(take_compiled_step, self.network, self.objective, self._clip)
        key = self._compile_key, signature_of(trees[-1])
        return compiled(key, function, *trees, should_stop=should_stop)

    def _compiled_step(self, batch: Minibatch, clip_range: float, max_kl: float) -> list[float]:
        trees = self._trees(batch, clip_range, max_kl)
        step, counts = self._function_of(trees), adam_moments(self.optimiser)[2]
        found = step(leaves_of(trees))[0].tolist()
        if found[KL] <= max_kl and _is_finite(found[0]) and _is_finite(found[-1]):
            torch._foreach_add_(counts, 1)
        return found


def _is_finite(x: float) -> bool:
    return -float("inf") < x < float("inf")


def take_compiled_step(
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
    """Take a step of Adam on `weights`, in place; the network provides only its structure.

    Args:
        averages: Adam's, one for each weight, of its shape; so are the squares.
        coefficient: Adam's, [3].
        bounds: the clip range and the largest approximate KL divergence, [2].

    Returns:
        FIGURES and the gradient's norm, [7], as the only item of a tuple.
    """

    def of(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return objective(cast(Any, with_weights(network, weights)), batch, bounds[0])

    gradients, figures = torch.func.grad(of, has_aux=True)(weights)
    norm = clip_named_gradients(gradients, clip)
    valid = torch.isfinite(figures[0]) & torch.isfinite(norm) & (figures[KL] <= bounds[1])
    for name, average, square in zip(weights, averages, squares, strict=True):
        adam_step(weights[name], gradients[name], average, square, coefficient, valid)
    return (torch.cat([figures, norm.unsqueeze(0)]),)

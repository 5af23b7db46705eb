"""Gradient steps, several at a time: eagerly, or compiled as one function.

Compiled, a burst of K steps (values of the successors, K times loss, gradient, clipping and Adam) is one
call without any dispatch between its operations. Both ways give the same numbers up to rounding, and
both leave the weights as they are where a loss or gradient isn't finite.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from rl_lab.nn.compiling import bare_weights, calling, compiled, kind_of
from rl_lab.nn.optim import adam_coefficients, adam_moments, adam_step
from rl_lab.nn.regularise import Clip, bounded_gradients, differentiate, dropouts_of, dropping
from rl_lab.td import Batch, select

Network = Callable[..., tuple[Tensor, Any]]


class Loss(Protocol):
    """What is minimised."""

    def prepare(self, target: Network, batch: Batch) -> Batch:
        """Add what the target network says of all K batches."""

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, predictions and targets of one of the K batches."""


class Outcome(NamedTuple):
    """What K gradient steps found; B stands for the batch's axes."""

    loss: Tensor  # [K]
    norm: Tensor  # [K], of the gradient before it was scaled
    prediction: Tensor  # [K, B]
    target: Tensor  # [K, B]


class Updates:
    """Takes gradient steps on `online` with targets from `target`.

    Args:
        compile_as: what decides the networks' structure, to compile once for all alike; None: eager.
    """

    def __init__(
        self,
        online: nn.Module,
        target: nn.Module,
        loss: Loss,
        optimiser: torch.optim.Optimizer,
        clip: Clip,
        compile_as: Hashable | None = None,
    ):
        self.online, self.target, self.loss = online, target, loss
        self.optimiser, self.clip = optimiser, clip
        self._parameters, self._dropouts = list(online.parameters()), dropouts_of(online)
        self._weights, self._target_weights = (
            bare_weights(online),
            bare_weights(target),
        )  # weights are changed in place
        self._compile_as = None
        if compile_as is not None:
            layout = tuple((weight.shape, weight.stride()) for weight in self._weights.values())
            self._compile_as = (compile_as, layout, loss, clip)

    def __call__(self, batch: Batch, taken: int = 0) -> Outcome:
        """Take a step on each of K batches; `taken` were taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; from that step on the weights are as before.
        """
        if self._compile_as is None:
            return self._eager(batch, taken)
        return self._call_burst(compiled((self._compile_as, kind_of(batch)), self._make_burst), batch, taken)

    def _eager(self, batch: Batch, first: int) -> Outcome:
        with torch.no_grad():
            batch = self.loss.prepare(self.target, batch)
        taken = [self._step(select(batch, k), first + k) for k in range(len(batch.action))]
        return Outcome(*map(torch.stack, zip(*taken, strict=True)))

    def _step(self, batch: Batch, number: int) -> Outcome:
        with dropping(*self._dropouts):
            loss, prediction, target = self.loss(self.online, batch)
        norm = differentiate(loss, self._parameters, self.clip)
        _require_finite(loss.detach(), norm, number)
        self.optimiser.step()
        return Outcome(loss.detach(), norm, prediction.detach(), target)

    # Compiled ----------------------------------------------------------------------------------------

    def _make_burst(self) -> FunctionType:
        """Return the function of a burst over bare tensors; of the networks only the structure stays."""
        online, target = (copy.deepcopy(net).to("meta") for net in (self.online, self.target))
        loss, clip = self.loss, self.clip

        def call(*tensors: Any) -> Outcome:
            return burst(online, target, loss, clip, *tensors)

        return cast(FunctionType, call)

    def _call_burst(self, function: Callable[..., Outcome], batch: Batch, first: int) -> Outcome:
        averages, squares, counts = adam_moments(self.optimiser)
        size = len(batch.action)
        with torch.no_grad():
            outcome = function(
                self._weights, self._target_weights, averages, squares, counts,
                adam_coefficients(self.optimiser, int(counts[0]), size), batch,
            )  # fmt: skip
        sound = torch.isfinite(outcome.loss + outcome.norm)
        if not sound.all():
            k = int(sound.long().argmin())
            _require_finite(outcome.loss[k], outcome.norm[k], first + k)
        return outcome


def _require_finite(loss: Tensor, norm: Tensor, number: int) -> None:
    if not math.isfinite((loss + norm).item()):  # the gradient of the Huber loss is finite even at inf
        raise FloatingPointError(f"loss {loss.item()}, gradient norm {norm.item()} at gradient step {number}")


def figures_of(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the figures of value learning over several calls, by name."""
    loss, norm, q, target = (torch.cat([x.flatten() for x in parts]) for parts in zip(*outcomes, strict=True))
    figures = loss.mean(), q.mean(), q.max(), (target - q).abs().mean(), target.mean(), norm.mean()
    names = ("loss", "q_mean", "q_max", "td_error", "target_mean", "grad_norm")
    return dict(zip(names, torch.stack(figures).tolist(), strict=True))


def burst(
    online: nn.Module,
    target: nn.Module,
    loss: Loss,
    clip: Clip,
    weights: dict[str, Tensor],
    target_weights: dict[str, Tensor],
    averages: list[Tensor],
    squares: list[Tensor],
    counts: list[Tensor],
    coefficients: list[Tensor],
    batch: Batch,
) -> Outcome:
    """Take K gradient steps with Adam on `weights`, in place; the modules give the structure alone."""
    batch = loss.prepare(calling(target, target_weights), batch)
    sound = torch.ones((), dtype=torch.bool)
    taken = []
    for k, coefficient in enumerate(coefficients):
        gradients, found = _gradients(online, loss, weights, select(batch, k))
        norm = bounded_gradients(gradients, clip)
        sound = sound & torch.isfinite(found[0] + norm)
        for name, average, square in zip(weights, averages, squares, strict=True):
            adam_step(weights[name], gradients[name], average, square, coefficient, sound)
        taken.append(Outcome(found[0], norm, found[1], found[2]))
    for count in counts:
        count.add_(len(taken))
    return Outcome(*map(torch.stack, zip(*taken, strict=True)))


def _gradients(
    module: nn.Module, loss: Loss, weights: dict[str, Tensor], batch: Batch
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def of(weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        found = loss(calling(module, weights), batch)
        return found[0], found

    return torch.func.grad(of, has_aux=True)(weights)

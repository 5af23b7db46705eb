"""Gradient steps, several at a time: eagerly, or compiled as one function.

Compiled, up to UNROLLED steps (values of the successors, then loss, gradient, clipping and Adam of each) are
one call without any dispatch between their operations. Both ways give the same numbers up to rounding, and
both leave the weights as they are where a loss or gradient isn't finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rl_lab.trees import leaves_of
from rl_lab.updates.compiling import Run, bare_weights, calling, compiled, kind_of
from rl_lab.updates.optimisers import adam_coefficients, adam_moments, adam_step, settle_moments
from rl_lab.updates.regularise import Clip, bounded_gradients, differentiate, dropouts_of, dropping
from rl_lab.updates.td import Batch, select

Network = Callable[..., tuple[Tensor, Any]]
VALUED_TOGETHER = 4  # batches whose successors are valued at once, eagerly; of images more take more memory
UNROLLED = 2  # more take longer to compile and load, and are no faster


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
            self._compile_as = (compile_as, kind_of(self._weights), loss, clip)

    def __call__(self, batch: Batch, taken: int = 0) -> Outcome:
        """Take a step on each of K batches; `taken` were taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; from that step on the weights are as before.
        """
        if self._compile_as is None:
            return self._eager(batch, taken)
        return self._compiled(batch, taken)

    def _eager(self, batch: Batch, first: int) -> Outcome:
        taken, steps = [], len(batch.action)
        for begin in range(0, steps, VALUED_TOGETHER):
            part = batch if steps <= VALUED_TOGETHER else select(batch, slice(begin, begin + VALUED_TOGETHER))
            with torch.no_grad():
                part = self.loss.prepare(self.target, part)
            taken += [self._step(select(part, k), first + begin + k) for k in range(len(part.action))]
        return Outcome(*map(torch.stack, zip(*taken, strict=True)))

    def _step(self, batch: Batch, number: int) -> Outcome:
        with dropping(*self._dropouts):
            loss, prediction, target = self.loss(self.online, batch)
        norm = differentiate(loss, self._parameters, self.clip)
        _require_finite(loss.detach(), norm, number)
        self.optimiser.step()
        settle_moments(self.optimiser, number)
        return Outcome(loss.detach(), norm, prediction.detach(), target)

    # Compiled ----------------------------------------------------------------------------------------

    def _compiled(self, batch: Batch, first: int) -> Outcome:
        averages, squares, counts = adam_moments(self.optimiser)
        steps = len(batch.action)
        fixed = self._weights, self._target_weights, tuple(averages), tuple(squares)
        rates = adam_coefficients(self.optimiser, int(counts[0]), steps)
        unrolled = next(count for count in range(UNROLLED, 0, -1) if steps % count == 0)
        run = self._burst(*fixed, rates[:unrolled], select(batch, slice(unrolled)))
        leaves, changing = leaves_of(fixed), [x.split(unrolled) for x in leaves_of((rates, batch))]
        found: list[Outcome] = []
        for k, part in enumerate(zip(*changing, strict=True)):
            found.append(Outcome(*run([*leaves, *part])))
            if (sound := _sound_steps(found[-1])) < unrolled:
                torch._foreach_add_(counts, k * unrolled + sound)
                _require_finite(found[-1].loss[sound], found[-1].norm[sound], first + k * unrolled + sound)
        torch._foreach_add_(counts, steps)
        return found[0] if len(found) == 1 else Outcome(*map(torch.cat, zip(*found, strict=True)))

    def _burst(self, *trees: Any) -> Run:
        """Return the function of a part's gradient steps; of the networks only the structure is in it."""
        call = partial(burst, self.online, self.target, self.loss, self.clip)
        return compiled((self._compile_as, kind_of(trees[-1])), call, *trees)


def _sound_steps(outcome: Outcome) -> int:
    """Return how many steps were taken before the first whose loss or gradient isn't finite."""
    losses, norms = outcome.loss.tolist(), outcome.norm.tolist()  # sums don't overflow in double precision
    if math.isfinite(sum(losses) + sum(norms)):
        return len(losses)
    return next(k for k, pair in enumerate(zip(losses, norms, strict=True)) if not math.isfinite(sum(pair)))


def _require_finite(loss: Tensor, norm: Tensor, number: int) -> None:
    if not math.isfinite(loss.item() + norm.item()):  # the gradient of the Huber loss is finite even at inf
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
    averages: tuple[Tensor, ...],
    squares: tuple[Tensor, ...],
    coefficients: Tensor,
    batch: Batch,
) -> Outcome:
    """Take K gradient steps with Adam on `weights`, in place; the modules give the structure alone."""
    batch = loss.prepare(calling(target, target_weights), batch)
    sound = torch.ones((), dtype=torch.bool)
    taken = []
    for k, coefficient in enumerate(coefficients.unbind()):
        gradients, found = _gradients(online, loss, weights, select(batch, k))
        norm = bounded_gradients(gradients, clip)
        sound = sound & torch.isfinite(found[0]) & torch.isfinite(norm)
        for name, average, square in zip(weights, averages, squares, strict=True):
            adam_step(weights[name], gradients[name], average, square, coefficient, sound)
        taken.append(Outcome(found[0], norm, found[1], found[2]))
    return Outcome(*map(torch.stack, zip(*taken, strict=True)))


def _gradients(
    module: nn.Module, loss: Loss, weights: dict[str, Tensor], batch: Batch
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def of(weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        found = loss(calling(module, weights), batch)
        return found[0], found

    return torch.func.grad(of, has_aux=True)(weights)

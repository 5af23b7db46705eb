"""Updates of a value network: from what a replay drew to moved weights, in one call.

An update takes one gradient step on each of K batches, eagerly or compiled. Compiled, up to UNROLLED steps (values of
the successors, then loss, gradient, clipping and Adam of each) are one call without any dispatch between their
operations. Both ways give the same numbers up to rounding, and both leave the weights as they are where a loss or
gradient isn't finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rl_lab.trees import leaves_of
from rl_lab.types import Array
from rl_lab.updates.adam import adam_coefficients, adam_moments, adam_step
from rl_lab.updates.compiling import CompiledCall, bare_weights, calling, compiled, kind_of
from rl_lab.updates.gradients import (
    Clip,
    Dropping,
    bounded_gradients,
    require_finite,
    take_step,
)
from rl_lab.updates.td import Batch, Loss, Outcome, select

VALUED_TOGETHER = 4  # batches whose successors are valued at once, eagerly; of images more take more memory
UNROLLED = 2  # more take longer to compile and load, and are no faster


def _as_it_is(batch: Batch) -> Batch:
    return batch


class Learned(NamedTuple):
    """What an update found in the transitions or windows that were drawn."""

    outcome: Outcome  # of the steps that were learned from
    errors: Array | None  # float [B]: how far off each of those drawn was; None unless they have priorities


class Updates:
    """Takes gradient steps on `online` with targets from `target`.

    Args:
        batch_size: transitions, or windows, per gradient step.
        augment: changes each batch before it is learned from (scales rewards, shifts images).
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
        *,
        batch_size: int = 1,
        augment: Callable[[Batch], Batch] = _as_it_is,
    ):
        self.online, self.target, self.loss = online, target, loss
        self.optimiser, self.clip, self.batch_size = optimiser, clip, batch_size
        self._augment = augment
        self._parameters, self._dropping = list(online.parameters()), Dropping(online)
        self._tensor = partial(torch.as_tensor, device=next(iter(self._parameters)).device)
        # Weights are changed in place, so that these stay valid.
        self._weights, self._target_weights = bare_weights(online), bare_weights(target)
        self._compile_as = None
        if compile_as is not None:
            self._compile_as = (compile_as, kind_of(self._weights), loss, clip)

    def learn(self, drawn: Any, taken: int) -> Learned:
        """Take a gradient step on each batch of what a replay drew; `taken` were taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; from that step on the weights are as before.
        """
        outcome = self(self.batch(drawn), taken)
        errors = None if drawn.weight is None else self.loss.errors(drawn, outcome)
        return Learned(self.loss.learned_from(drawn, outcome), errors)

    def batch(self, drawn: Any) -> Batch:
        """Return what a replay drew as K batches on the network's device, as they are learned from."""
        return self._augment(self.loss.batch(drawn, self.batch_size, self._tensor))

    def __call__(self, batch: Batch, taken: int = 0) -> Outcome:
        """Take a step on each of K batches; `taken` were taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; from that step on the weights are as before.
        """
        if self._compile_as is None:
            return self._eager(batch, taken)
        return self._compiled(batch, taken)

    def _eager(self, batch: Batch, first: int) -> Outcome:
        taken: list[Outcome] = []
        steps = len(batch.action)
        for begin in range(0, steps, VALUED_TOGETHER):
            part = batch if steps <= VALUED_TOGETHER else select(batch, slice(begin, begin + VALUED_TOGETHER))
            with torch.no_grad():
                part = self.loss.prepare(self.target, part)
            taken += [self._step(select(part, k), first + begin + k) for k in range(len(part.action))]
        if steps == 1:  # at a third of a stack's cost
            return Outcome(*(found.unsqueeze(0) for found in taken[0]))
        return Outcome(*map(torch.stack, zip(*taken, strict=True)))

    def _step(self, batch: Batch, number: int) -> Outcome:
        with self._dropping:
            loss, prediction, target = self.loss(self.online, batch)
        norm = take_step(loss, self._parameters, self.optimiser, self.clip, number)
        return Outcome(loss.detach(), norm, prediction.detach(), target)

    # Compiled ----------------------------------------------------------------------------------------

    def _compiled(self, batch: Batch, first: int) -> Outcome:
        averages, squares, counts = adam_moments(self.optimiser)
        steps = len(batch.action)
        fixed = self._weights, self._target_weights, tuple(averages), tuple(squares)
        rates = adam_coefficients(self.optimiser, int(counts[0]), steps)
        unrolled = next(count for count in range(UNROLLED, 0, -1) if steps % count == 0)
        run = self._function_of(*fixed, rates[:unrolled], select(batch, slice(unrolled)))
        leaves, changing = leaves_of(fixed), [x.split(unrolled) for x in leaves_of((rates, batch))]
        found: list[Outcome] = []
        for k, part in enumerate(zip(*changing, strict=True)):
            found.append(Outcome(*run([*leaves, *part])))
            if (sound := _sound_steps(found[-1])) < unrolled:
                torch._foreach_add_(counts, k * unrolled + sound)
                require_finite(found[-1].loss[sound], found[-1].norm[sound], first + k * unrolled + sound)
        torch._foreach_add_(counts, steps)
        return found[0] if len(found) == 1 else Outcome(*map(torch.cat, zip(*found, strict=True)))

    def _function_of(self, *trees: Any) -> CompiledCall:
        """Return the function of a part's gradient steps; of the networks only the structure is in it."""
        call = partial(take_steps, self.online, self.target, self.loss, self.clip)
        return compiled((self._compile_as, kind_of(trees[-1])), call, *trees)


def _sound_steps(outcome: Outcome) -> int:
    """Return how many steps were taken before the first whose loss or gradient isn't finite."""
    losses, norms = outcome.loss.tolist(), outcome.norm.tolist()  # sums don't overflow in double precision
    if math.isfinite(sum(losses) + sum(norms)):
        return len(losses)
    return next(k for k, pair in enumerate(zip(losses, norms, strict=True)) if not math.isfinite(sum(pair)))


def figures_of(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the figures of value learning over several calls, by name."""
    loss, norm, q, target = (torch.cat([x.flatten() for x in parts]) for parts in zip(*outcomes, strict=True))
    figures = loss.mean(), q.mean(), q.max(), (target - q).abs().mean(), target.mean(), norm.mean()
    names = ("loss", "q_mean", "q_max", "td_error", "target_mean", "grad_norm")
    return dict(zip(names, torch.stack(figures).tolist(), strict=True))


def take_steps(
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

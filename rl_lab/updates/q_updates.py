"""Updates of a value network: one call learns from what a replay drew.

An update takes one gradient step on each of K batches, eager or compiled. When compiled, up to UNROLLED_STEPS steps
(the successors' values, then loss, gradient, clipping and Adam for each step) are a single call, without torch's
overhead for each operation. Both give the same numbers up to rounding, and both leave the weights unchanged from the
first step on whose loss or gradient isn't finite.
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
from rl_lab.updates.compiling import CompiledCall, bare_weights, compiled, never, signature_of, with_weights
from rl_lab.updates.gradients import (
    ActiveDropout,
    Clip,
    clip_named_gradients,
    require_finite,
    take_step,
)
from rl_lab.updates.td import Batch, Loss, Outcome, select

# Batches per call of the eager target network; more would take much memory with images.
TARGET_BATCHES_PER_CALL = 4
UNROLLED_STEPS = 2  # more take longer to compile and load, and are no faster


def _identity(batch: Any) -> Any:
    return batch


class Learned(NamedTuple):
    """The result of an update on the transitions or windows drawn."""

    outcome: Outcome  # only of the steps that were learned from
    errors: Array | None  # float [B]: the error of each transition or window; None without priorities


class QUpdates:
    """Takes gradient steps on `online` with targets from `target`.

    Args:
        compile_key: identifies the networks' structure, so that equal networks share compiled code; None: eager.
            Compiled steps assume that the optimiser is Adam.
        batch_size: transitions or windows per gradient step.
        augment: changes each batch before it is learned from (scales rewards, shifts images).
    """

    def __init__(
        self,
        online: nn.Module,
        target: nn.Module,
        loss: Loss,
        optimiser: torch.optim.Optimizer,
        clip: Clip,
        compile_key: Hashable | None = None,
        *,
        batch_size: int = 1,
        augment: Callable[[Any], Any] = _identity,  # of batches, as the loss returns them
    ):
        self.online, self.target, self.loss = online, target, loss
        self.optimiser, self.clip, self.batch_size = optimiser, clip, batch_size
        self._augment = augment
        self._parameters, self._active_dropout = list(online.parameters()), ActiveDropout(online)
        self._tensor = partial(torch.as_tensor, device=next(iter(self._parameters)).device)
        # These views stay valid, as weights are changed in place.
        self._weights, self._target_weights = bare_weights(online), bare_weights(target)
        self._compile_key = None
        if compile_key is not None:
            self._compile_key = (compile_key, signature_of(self._weights), loss, clip)

    def learn(self, drawn: Any, taken: int) -> Learned:
        """Take a gradient step on each batch of what a replay drew.

        Args:
            drawn: transitions or windows.
            taken: gradient steps taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        outcome = self(self.batch(drawn), taken)
        errors = None if drawn.weight is None else self.loss.errors(drawn, outcome)
        return Learned(self.loss.select_learned(drawn, outcome), errors)

    def batch(self, drawn: Any) -> Batch:
        """Return what a replay drew as K augmented batches on the network's device."""
        return self._augment(self.loss.batch(drawn, self.batch_size, self._tensor))

    def __call__(self, batch: Batch, taken: int = 0) -> Outcome:
        """Take a gradient step on each of K batches; `taken` steps were taken before.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        if self._compile_key is None:
            return self._eager(batch, taken)
        return self._compiled(batch, taken)

    def _eager(self, batch: Batch, first: int) -> Outcome:
        taken: list[tuple[Tensor, ...]] = []
        steps = len(batch.action)
        for begin in range(0, steps, TARGET_BATCHES_PER_CALL):
            stop = begin + TARGET_BATCHES_PER_CALL
            part = batch if steps <= TARGET_BATCHES_PER_CALL else select(batch, slice(begin, stop))
            with torch.no_grad():
                part = self.loss.add_next_values(self.target, part)
            taken += [self._step(select(part, k), first + begin + k) for k in range(len(part.action))]
        if steps == 1:  # takes a third of the time of torch.stack
            return Outcome(*(found.unsqueeze(0) for found in taken[0]))
        return Outcome(*map(torch.stack, zip(*taken, strict=True)))

    def _step(self, batch: Batch, number: int) -> tuple[Tensor, ...]:
        with self._active_dropout:
            loss, prediction, *rest = self.loss(self.online, batch)
        norm = take_step(loss, self._parameters, self.optimiser, self.clip, number)
        return loss.detach(), norm, prediction.detach(), *rest

    # Compiled ----------------------------------------------------------------------------------------

    def _compiled(self, batch: Batch, first: int) -> Outcome:
        averages, squares, counts = adam_moments(self.optimiser)
        steps = len(batch.action)
        fixed = self._weights, self._target_weights, tuple(averages), tuple(squares)
        rates = adam_coefficients(self.optimiser, int(counts[0]), steps)
        unrolled = _unrolled(steps)
        run = self._function_of(*fixed, rates[:unrolled], select(batch, slice(unrolled)))
        leaves, changing = leaves_of(fixed), [x.split(unrolled) for x in leaves_of((rates, batch))]
        found: list[list[Tensor]] = []
        for k, part in enumerate(zip(*changing, strict=True)):
            found.append(run([*leaves, *part]))
            outcome = Outcome(*found[-1])
            if (finite := _finite_steps(outcome)) < unrolled:
                torch._foreach_add_(counts, k * unrolled + finite)
                require_finite(outcome.loss[finite], outcome.norm[finite], first + k * unrolled + finite)
        torch._foreach_add_(counts, steps)
        return Outcome(*(found[0] if len(found) == 1 else map(torch.cat, zip(*found, strict=True))))

    def compile(self, batch: Batch, should_stop: Callable[[], bool]) -> None:
        """Compile the gradient steps on batches like this one, unless they are eager; nothing is learned.

        Raises:
            CompilationStopped: `should_stop`, asked many times a second, said so.
        """
        if self._compile_key is None:
            return
        averages, squares, _ = adam_moments(self.optimiser)
        unrolled = _unrolled(len(batch.action))
        fixed = self._weights, self._target_weights, tuple(averages), tuple(squares)
        rates = adam_coefficients(self.optimiser, 0, unrolled)
        self._function_of(*fixed, rates, select(batch, slice(unrolled)), should_stop=should_stop)

    def _function_of(self, *trees: Any, should_stop: Callable[[], bool] = never) -> CompiledCall:
        """Return the compiled function of a part's gradient steps; the networks provide only their structure."""
        call = partial(take_compiled_steps, self.online, self.target, self.loss, self.clip)
        key = self._compile_key, signature_of(trees[-1])
        return compiled(key, call, *trees, should_stop=should_stop)


def _unrolled(steps: int) -> int:
    """Return how many of an update's gradient steps are compiled into one call."""
    return next(count for count in range(UNROLLED_STEPS, 0, -1) if steps % count == 0)


def _finite_steps(outcome: Outcome) -> int:
    """Return how many steps come before the first whose loss or gradient isn't finite."""
    losses, norms = outcome.loss.tolist(), outcome.norm.tolist()  # sums of doubles, which can't overflow here
    if math.isfinite(sum(losses) + sum(norms)):
        return len(losses)
    return next(k for k, pair in enumerate(zip(losses, norms, strict=True)) if not math.isfinite(sum(pair)))


def figures_of(outcomes: list[Outcome]) -> dict[str, float]:
    """Return the metrics of value learning by name, averaged over several calls."""
    first_four = [outcome[:4] for outcome in outcomes]
    loss, norm, q, target = (
        torch.cat([x.flatten() for x in parts]) for parts in zip(*first_four, strict=True)
    )
    figures = loss.mean(), q.mean(), q.max(), (target - q).abs().mean(), target.mean(), norm.mean()
    names = ("loss", "q_mean", "q_max", "td_error", "target_mean", "grad_norm")
    return dict(zip(names, torch.stack(figures).tolist(), strict=True))


def take_compiled_steps(
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
) -> tuple[Tensor, ...]:
    """Take K gradient steps of Adam on `weights`, in place, and return the parts of an `Outcome` that there are.

    The modules provide only their structure.

    Args:
        weights: those of the network, by name, of any shapes.
        target_weights: those of the target, of the same shapes.
        averages: Adam's, one for each weight, of its shape; so are the squares.
        coefficients: Adam's, [K, 3].
        batch: K batches.
    """
    batch = loss.add_next_values(with_weights(target, target_weights), batch)
    valid = torch.ones((), dtype=torch.bool)
    taken = []
    for k, coefficient in enumerate(coefficients.unbind()):
        gradients, found = gradients_of(online, loss, weights, select(batch, k))
        norm = clip_named_gradients(gradients, clip)
        valid = valid & torch.isfinite(found[0]) & torch.isfinite(norm)
        for name, average, square in zip(weights, averages, squares, strict=True):
            adam_step(weights[name], gradients[name], average, square, coefficient, valid)
        taken.append((found[0], norm, *found[1:]))
    return tuple(map(torch.stack, zip(*taken, strict=True)))


def gradients_of(
    module: nn.Module, loss: Loss, weights: dict[str, Tensor], batch: Batch
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Return the gradients by name, of the weights' shapes, and the parts of an `Outcome` but for the norm."""

    def of(weights: dict[str, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        found = loss(with_weights(module, weights), batch)
        return found[0], found

    return torch.func.grad(of, has_aux=True)(weights)

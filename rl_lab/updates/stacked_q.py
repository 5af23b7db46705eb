"""Updates of K value networks of one configuration at once: what `q_updates.QUpdates` does for each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.trees import join_leaves, leaves_of, map_leaves
from rl_lab.updates.adam import adam_coefficients, adam_moments
from rl_lab.updates.compiling import CompiledCall, compiled, never, signature_of, with_weights
from rl_lab.updates.gradients import Clip
from rl_lab.updates.q_updates import UNROLLED_STEPS, gradients_of, take_compiled_steps
from rl_lab.updates.stacked import Stack, clip_stacked, over_networks, traced_call
from rl_lab.updates.td import Batch, TDLoss

FIELDS = ("obs", "action", "reward", "discount", "terminated", "next_obs", "next_mask", "weight")
FIGURES = ("loss", "q_mean", "q_max", "td_error", "target_mean", "grad_norm")


class Figures(NamedTuple):
    """What S gradient steps of K networks found."""

    loss: Tensor  # [K, S]
    norm: Tensor  # [K, S]: of the gradient before scaling
    prediction: Tensor  # [K, S, B]
    target: Tensor  # [K, S, B]


class StackedQUpdates:
    """Takes gradient steps on K networks, each with targets from its own target network.

    Args:
        network: provides the structure of the networks.
        stack: their weights.
        target_weights: those of the targets, [K, ...] by name.
        compile_key: identifies the networks' structure; None: eager. Compiled steps assume that the optimiser is Adam.
        batch_size: transitions per gradient step of a network.
    """

    def __init__(
        self,
        network: nn.Module,
        stack: Stack,
        target_weights: dict[str, Tensor],
        loss: TDLoss,
        clip: Clip,
        compile_key: Hashable | None = None,
        *,
        batch_size: int = 1,
    ):
        self._network, self._stack, self._loss, self._clip = network, stack, loss, clip
        self._target_weights, self._batch_size = target_weights, batch_size
        self._compiles = compile_key is not None
        structure = repr(network) if compile_key is None else compile_key
        self._key = ("stacked", structure, signature_of(stack.weights), loss, clip)
        self._tensor = partial(torch.as_tensor, device=next(iter(stack.parameters)).device)

    def __call__(self, drawn: Sequence[Any], taken: int) -> tuple[Figures, dict[int, FloatingPointError]]:
        """Take a gradient step of each network on each batch of what its replay drew.

        Args:
            drawn: the transitions [S * B, ...] of each of the K networks.
            taken: gradient steps taken before.

        Returns:
            The figures, and why the networks that failed did: their losses or gradients weren't finite. Their weights
            are worth nothing from then on.
        """
        batch = self.batch(drawn)
        figures = self._compiled(batch, taken) if self._compiles else self._eager(batch, taken)
        failed: dict[int, FloatingPointError] = {}
        losses, norms = figures.loss.tolist(), figures.norm.tolist()
        if not math.isfinite(sum(map(sum, losses)) + sum(map(sum, norms))):
            for k, pairs in enumerate(zip(losses, norms, strict=True)):
                if (error := _failure(*pairs, taken)) is not None:
                    failed[k] = error
        return figures, failed

    def batch(self, drawn: Sequence[Any]) -> Batch:
        """Return what the replays drew as batches [K, S, B, ...] on the networks' device."""
        steps = max(1, len(drawn[0].action) // self._batch_size)

        def split(x: Any) -> Tensor:
            return self._tensor(x.reshape(len(drawn), steps, -1, *x.shape[2:]))

        fields: dict[str, Any] = {}
        for name in FIELDS:
            parts = [getattr(one, name) for one in drawn]
            fields[name] = None if parts[0] is None else map_leaves(split, join_leaves(np.stack, parts))
        fields["terminated"] = fields["terminated"].float()
        return Batch(**fields)

    def compile(self, batch: Batch, should_stop: Callable[[], bool]) -> None:
        """Compile the gradient steps on batches like this one, unless they are eager; nothing is learned.

        Raises:
            CompilationStopped: `should_stop`, asked many times a second, said so.
        """
        if self._compiles:
            unrolled = _unrolled(batch.action.shape[1])
            part = map_leaves(lambda x: x[:, :unrolled].contiguous(), batch)
            rates = adam_coefficients(self._stack.optimiser, 0, unrolled)
            self._function_of(rates, *self._fixed(), part, should_stop=should_stop)

    # Eager -------------------------------------------------------------------------------------------------

    def _eager(self, batch: Batch, taken: int) -> Figures:
        steps = batch.action.shape[1]
        if steps == 1:  # takes a third of the time of torch.stack
            return Figures(*(x.unsqueeze(1) for x in self._step(batch, taken)))
        found = [self._step(_part(batch, s, s + 1), taken + s) for s in range(steps)]
        return Figures(*(torch.stack(parts, dim=1) for parts in zip(*found, strict=True)))

    def _step(self, part: Batch, number: int) -> tuple[Tensor, ...]:
        """Take gradient step `number` on the batches [K, 1, B, ...]; return loss, norm, predictions and targets."""
        trees = self._stack.weights, self._target_weights, part
        single = partial(_step_gradients, self._network, self._loss)
        call = traced_call(self._key, over_networks(single, trees, 0), *trees)
        names = list(self._stack.weights)
        with torch.no_grad():
            found = call(*leaves_of(trees))
            gradients = dict(zip(names, found, strict=False))
            loss, prediction, target = found[len(names) :]
            norm = clip_stacked(gradients, self._clip)
        self._stack.apply(gradients, number)
        return loss, norm, prediction, target

    # Compiled ----------------------------------------------------------------------------------------------

    def _fixed(self) -> tuple[Any, ...]:
        averages, squares, _ = adam_moments(self._stack.optimiser)
        return self._stack.weights, self._target_weights, tuple(averages), tuple(squares)

    def _function_of(
        self, rates: Tensor, *trees: Any, should_stop: Callable[[], bool] = never
    ) -> CompiledCall:
        """Return the compiled function of a part's gradient steps."""

        def single(rates: Tensor, *own: Any) -> tuple[Tensor, ...]:
            weights, targets, averages, squares, batch = own
            return take_compiled_steps(
                self._network, self._network, self._loss, self._clip,
                weights, targets, averages, squares, rates, batch,
            )  # fmt: skip

        arguments = rates, *trees
        key = self._key, signature_of((rates, trees[-1]))
        return compiled(key, over_networks(single, arguments, 1), *arguments, should_stop=should_stop)

    def _compiled(self, batch: Batch, taken: int) -> Figures:
        steps = batch.action.shape[1]
        unrolled, fixed = _unrolled(steps), self._fixed()
        counts = adam_moments(self._stack.optimiser)[2]
        rates = adam_coefficients(self._stack.optimiser, int(counts[0]), steps)
        found = []
        for s in range(0, steps, unrolled):
            part = batch if unrolled == steps else _part(batch, s, s + unrolled)
            some = rates[s : s + unrolled]
            run = self._function_of(some, *fixed, part)
            found.append(run(leaves_of((some, *fixed, part))))
            torch._foreach_add_(counts, unrolled)
        self._stack.share_state()
        return Figures(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))


def _step_gradients(
    network: nn.Module, loss: TDLoss, weights: dict[str, Tensor], target: dict[str, Tensor], batch: Batch
) -> list[Tensor]:
    """Return the gradients of one network's batch [1, B, ...], then its loss, predictions and targets."""
    batch = loss.add_next_values(with_weights(network, target), batch)
    gradients, found = gradients_of(network, loss, weights, map_leaves(lambda x: x[0], batch))
    return [*gradients.values(), *found]


def _unrolled(steps: int) -> int:
    return next(count for count in range(UNROLLED_STEPS, 0, -1) if steps % count == 0)


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return map_leaves(lambda x: x[:, start:stop].contiguous(), batch)


def _failure(losses: list[float], norms: list[float], taken: int) -> FloatingPointError | None:
    """Return what is wrong with the first of a network's steps whose loss or gradient isn't finite; None if all are."""
    for s, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        if not math.isfinite(loss + norm):
            return FloatingPointError(f"loss {loss}, gradient norm {norm} at gradient step {taken + s}")
    return None


def figures_of_each(found: Sequence[Figures]) -> list[dict[str, float]]:
    """Return each network's metrics by name, averaged over several calls."""
    loss, norm, q, target = (
        torch.cat(parts, dim=1).flatten(1) for parts in zip(*found, strict=True)
    )  # [K, ...]
    error = (target - q).abs()
    rows = torch.stack(
        [loss.mean(1), q.mean(1), q.amax(1), error.mean(1), target.mean(1), norm.mean(1)], dim=1
    )
    return [dict(zip(FIGURES, row, strict=True)) for row in rows.tolist()]

"""Gradient steps on K actor-critic networks of one configuration at once: `policy_updates.PolicyUpdates` for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from rl_lab.trees import leaves_of
from rl_lab.updates.adam import adam_coefficients, adam_moments
from rl_lab.updates.compiling import CompiledCall, compiled, never, signature_of, with_weights
from rl_lab.updates.gradients import Clip
from rl_lab.updates.minibatches import Minibatch
from rl_lab.updates.policy_losses import Objective
from rl_lab.updates.policy_updates import take_compiled_step
from rl_lab.updates.stacked import Stack, clip_stacked, over_networks, traced_call


class StackedPolicyUpdates:
    """Takes gradient steps on K networks.

    Args:
        network: provides the structure of the networks.
        stack: their weights.
        compile_key: identifies the networks' structure; None: eager. Compiled steps assume that the optimiser is Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        stack: Stack,
        objective: Objective,
        clip: Clip,
        compile_key: Hashable | None = None,
    ):
        self._network, self._stack, self._objective, self._clip = network, stack, objective, clip
        self._compiles = compile_key is not None
        structure = repr(network) if compile_key is None else compile_key
        self._key = ("stacked policy", structure, signature_of(stack.weights), objective, clip)

    def __call__(self, batch: Minibatch, clip_range: float, number: int) -> list[list[float]]:
        """Take gradient step `number` of each network on its own minibatch.

        Args:
            batch: the minibatches, [K, B, ...].

        Returns:
            Each network's FIGURES and the norm of its gradient. One whose loss or norm isn't finite has failed: its
            weights are worth nothing from then on.
        """
        step = self._compiled if self._compiles else self._eager
        return step(batch, clip_range, number).tolist()

    def compile(self, batch: Minibatch, should_stop: Callable[[], bool]) -> None:
        """Compile the step on minibatches like these, unless steps are eager; nothing is learned.

        Raises:
            CompilationStopped: `should_stop`, asked many times a second, said so.
        """
        if self._compiles:
            self._function_of(self._trees(batch, 0.0), should_stop)

    def _eager(self, batch: Minibatch, clip_range: float, number: int) -> Tensor:
        trees = torch.tensor(clip_range, device=batch.log_prob.device), self._stack.weights, batch
        single = partial(_gradients, self._network, self._objective)
        call = traced_call(self._key, over_networks(single, trees, 1), *trees)
        with torch.no_grad():
            found = call(*leaves_of(trees))
            gradients = dict(zip(self._stack.weights, found, strict=False))
            norm = clip_stacked(gradients, self._clip)
        self._stack.apply(gradients, number)
        return torch.cat([found[-1], norm[:, None]], dim=1)

    # Compiled ----------------------------------------------------------------------------------------------

    def _trees(self, batch: Minibatch, clip_range: float) -> tuple[Any, ...]:
        """Return the arguments of a compiled step; the first two are the same for all networks."""
        averages, squares, counts = adam_moments(self._stack.optimiser)
        coefficient = adam_coefficients(self._stack.optimiser, int(counts[0]), 1)[0]
        bounds = torch.tensor([clip_range, math.inf])
        return coefficient, bounds, self._stack.weights, tuple(averages), tuple(squares), batch

    def _function_of(self, trees: tuple[Any, ...], should_stop: Callable[[], bool] = never) -> CompiledCall:
        def single(coefficient: Tensor, bounds: Tensor, *own: Any) -> tuple[Tensor]:
            weights, averages, squares, batch = own
            return take_compiled_step(
                self._network,
                self._objective,
                self._clip,
                weights,
                averages,
                squares,
                coefficient,
                bounds,
                batch,
            )

        key = self._key, signature_of(trees[-1])
        return compiled(key, over_networks(single, trees, 2), *trees, should_stop=should_stop)

    def _compiled(self, batch: Minibatch, clip_range: float, number: int) -> Tensor:
        trees = self._trees(batch, clip_range)
        found = self._function_of(trees)(leaves_of(trees))[0]
        torch._foreach_add_(adam_moments(self._stack.optimiser)[2], 1)
        self._stack.share_state()
        return found


def _gradients(
    network: nn.Module,
    objective: Objective,
    clip_range: Tensor,
    weights: dict[str, Tensor],
    batch: Minibatch,
) -> list[Tensor]:
    """Return the gradients of one network's minibatch, then its FIGURES."""

    def of(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return objective(cast(Any, with_weights(network, weights)), batch, clip_range)

    gradients, figures = torch.func.grad(of, has_aux=True)(weights)
    return [*gradients.values(), figures]

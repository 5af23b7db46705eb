"""The fields of an optimiser, and what they configure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import nn

from rl_lab.checks import above, at_least, flags, one_of, within
from rl_lab.nn.augment import shift_observations
from rl_lab.nn.fields import NetworkFields
from rl_lab.schedules import DECAYS, Schedule
from rl_lab.seeding import Streams
from rl_lab.types import UsageError
from rl_lab.updates.gradients import Clip
from rl_lab.updates.optimisers import OPTIMISERS
from rl_lab.updates.regularise import regularise

OptimiserName = Literal["adam", "adamw", "rmsprop", "rmsprop-torch", "sgd", "momentum", "nesterov", "adagrad"]
Shift = Callable[[Any, bool], Any]


@dataclass(frozen=True)
class OptimiserFields:
    """How the weights are moved."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "optimiser": (
            "optimiser", "learning_rate", "learning_rate_final", "learning_rate_decay", "warm_up_env_steps",
            "max_grad_norm", "max_grad_value", "normalise_gradients", "l1", "l2", "weight_decay", "average_decay",
        ),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("learning_rate",)

    learning_rate: float = 1e-3
    """Step size of the optimiser at the start."""
    learning_rate_final: float | None = None
    """Step size at the end of the budget; None: it stays as it is."""
    learning_rate_decay: Literal["linear", "exponential", "cosine", "step"] = "linear"
    """How the step size gets there; step: on four equal stretches, by the same factor each time."""
    warm_up_env_steps: int = 0
    """Environment steps over which the step size first rises linearly from 0."""
    optimiser: OptimiserName = "adam"
    """How weights move along the gradient; rmsprop is the centred one of Mnih et al. (2015)."""
    max_grad_norm: float | None = 10.0
    """Gradients are scaled down to this norm; None: not at all."""
    max_grad_value: float | None = None
    """Bound of each gradient entry, before the norm's."""
    normalise_gradients: bool = False
    """Scale gradients up as well as down to max_grad_norm (None: to 1)."""
    l1: float = 0.0
    """This times the sum of the weights' sizes is added to the loss (biases left out; its gradient isn't clipped)."""
    l2: float = 0.0
    """This times half the sum of the squared weights is added to the loss (likewise)."""
    weight_decay: float = 0.0
    """Share of the weights, times the step size, taken off in each step apart from the gradient (biases left out);
    adamw takes off 0.01 of its own besides, of biases too."""
    average_decay: float = 0.0
    """Decay per gradient step of an average of the weights, which is evaluated in their place; 0: none. Of a
    burst of gradient steps it takes in the last weights of every 16 or fewer."""


@dataclass(frozen=True)
class TrainedFields(NetworkFields, OptimiserFields):
    """The fields of a network and of its optimiser: those of every agent that has one."""


def check_optimiser(config: OptimiserFields) -> None:
    """Check the optimiser's fields.

    Raises:
        UsageError: naming field, value and what is allowed.
    """
    above(config, 0.0, "learning_rate", "max_grad_norm", "max_grad_value")
    at_least(config, 0, "learning_rate_final", "warm_up_env_steps", "l1", "l2", "weight_decay")
    within(config, 0.0, 1.0, "average_decay")
    flags(config, "normalise_gradients")
    one_of(config, "optimiser", tuple(OPTIMISERS))
    one_of(config, "learning_rate_decay", tuple(DECAYS))
    if config.learning_rate_final == 0 and config.learning_rate_decay in ("exponential", "step"):
        raise UsageError(
            f"learning_rate_final 0 is out of reach of learning_rate_decay {config.learning_rate_decay!r}"
            " (allowed: above 0, or linear, cosine)"
        )


def shift_of(config: NetworkFields, space: spaces.Space, streams: Streams) -> Shift:
    """Return the function that shifts observations at random, if that is asked for, before they are learned from.

    It takes tensors [B, ...], or with `over_time` windows [T, B, ...], in which an image shifts alike at all times.
    """
    if not config.random_shift:
        return lambda obs, over_time: obs
    rng = streams["shift"]
    return lambda obs, over_time: shift_observations(
        obs, space, rng, config.random_shift, over_time=over_time
    )


def learning_rate_of(config: OptimiserFields, total_steps: int) -> Schedule:
    """Return the step size by environment step."""
    start, end = config.learning_rate, config.learning_rate_final
    decay = DECAYS[config.learning_rate_decay]
    return decay(start, start if end is None else end, total_steps, warm_up_steps=config.warm_up_env_steps)


def make_optimiser(
    config: OptimiserFields, network: nn.Module, optimisers: Mapping[str, Any] = OPTIMISERS
) -> torch.optim.Optimizer:
    """Make the optimiser of a network's weights, with what it adds to their gradients."""
    optimiser = optimisers[config.optimiser](network.parameters(), config.learning_rate)
    regularise(optimiser, l1=config.l1, l2=config.l2, weight_decay=config.weight_decay, biases=False)
    return optimiser


def clip_of(config: OptimiserFields) -> Clip:
    """Return how gradients are bounded."""
    return Clip(config.max_grad_value, config.max_grad_norm, config.normalise_gradients)

"""The fields of an optimiser, and the parts that they configure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
from rl_lab.updates.optimisers import ADAMS, OPTIMISERS
from rl_lab.updates.regularise import penalised, regularise

OptimiserName = Literal[
    "adam", "adamw", "radam", "rmsprop", "rmsprop-torch", "sgd", "momentum", "nesterov", "adagrad"
]  # fmt: skip
Shift = Callable[[Any, bool], Any]
SMALLEST_EPSILON = 1e-20  # with less, single precision rounds what RAdam divides by it


@dataclass(frozen=True)
class OptimiserFields:
    """Fields of the optimiser: how gradients move the weights."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "optimiser": (
            "optimiser", "adam_epsilon", "learning_rate", "learning_rate_final", "learning_rate_decay",
            "warm_up_env_steps", "max_grad_norm", "max_grad_value", "normalise_gradients", "l1", "l2", "weight_decay",
            "average_decay",
        ),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("learning_rate",)

    learning_rate: float = 1e-3
    """Step size of the optimiser at the start."""
    learning_rate_final: float | None = None
    """Step size at the end of the budget; None: constant."""
    learning_rate_decay: Literal["linear", "exponential", "cosine", "step"] = "linear"
    """How the step size gets to learning_rate_final; step: by the same factor after each quarter of the budget."""
    warm_up_env_steps: int = 0
    """Environment steps at the start over which the step size rises linearly from 0."""
    optimiser: OptimiserName = "adam"
    """Optimiser; rmsprop is the centred RMSprop of Mnih et al. (2015)."""
    adam_epsilon: float | None = None
    """What adam, adamw and radam add to the root of their mean of squares; None: 1e-8, or 1e-5 for policy-gradient
    agents with adam."""
    max_grad_norm: float | None = 10.0
    """Largest norm of the gradient, which is scaled down to it; None: no bound."""
    max_grad_value: float | None = None
    """Largest size of each entry of the gradient, applied before max_grad_norm; None: no bound."""
    normalise_gradients: bool = False
    """Scale gradients up as well as down to max_grad_norm (to 1 if that is None)."""
    l1: float = 0.0
    """Strength of the L1 penalty on the weights, l1 * sum |w|; biases and learned noise have none, and its gradient
    isn't clipped."""
    l2: float = 0.0
    """Strength of the L2 penalty on the weights, l2 / 2 * sum w^2; biases and learned noise have none, and its gradient
    isn't clipped."""
    weight_decay: float = 0.0
    """Share of the weights, times the step size, subtracted at each step (decoupled decay), but not of biases and of
    learned noise. adamw also subtracts its own 0.01, biases included."""
    average_decay: float = 0.0
    """Decay per gradient step of an average of the weights, which is evaluated instead of them; 0: no average.
    When many gradient steps are taken at once, the average sees only the last weights of every 16 (or fewer)."""


@dataclass(frozen=True)
class TrainedFields(NetworkFields, OptimiserFields):
    """The fields of a network and its optimiser, which all agents with a network share."""

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget; agents with other schedules add theirs."""
        decays = self.learning_rate_final not in (None, self.learning_rate)
        return ("learning_rate_final",) * decays

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        idle = {"learning_rate_decay": "learning_rate_final"} if self.learning_rate_final is None else {}
        if self.optimiser not in ADAMS:
            idle["adam_epsilon"] = f"optimiser {', '.join(ADAMS[:-1])} or {ADAMS[-1]}"
        return super().idle_fields() | idle


def check_optimiser(config: OptimiserFields) -> None:
    """Check the optimiser's fields.

    Raises:
        UsageError: a field is out of range; the message names the field, its value and what is allowed.
    """
    above(config, 0.0, "learning_rate", "max_grad_norm", "max_grad_value")
    at_least(config, 0, "learning_rate_final", "warm_up_env_steps", "l1", "l2", "weight_decay")
    within(config, SMALLEST_EPSILON, 1.0, "adam_epsilon")
    within(config, 0.0, 1.0, "average_decay")
    flags(config, "normalise_gradients")
    one_of(config, "optimiser", tuple(OPTIMISERS))
    one_of(config, "learning_rate_decay", tuple(DECAYS))
    if config.learning_rate_final == 0 and config.learning_rate_decay in ("exponential", "step"):
        raise UsageError(
            f"learning_rate_final 0 is out of reach of learning_rate_decay {config.learning_rate_decay!r}"
            " (allowed: above 0, or linear, cosine)"
        )


def make_shift(config: NetworkFields, space: spaces.Space, streams: Streams) -> Shift:
    """Return the function that shifts images at random before they are learned from; the identity without random_shift.

    It takes tensors [B, ...], or with `over_time` windows [T, B, ...], whose images are shifted alike at all times.
    """
    if not config.random_shift:
        return lambda obs, over_time: obs
    rng = streams["shift"]
    return lambda obs, over_time: shift_observations(
        obs, space, rng, config.random_shift, channels=config.channels, over_time=over_time
    )


def make_learning_rate(config: OptimiserFields, total_steps: int) -> Schedule:
    """Return the step size as a function of the environment step."""
    start, end = config.learning_rate, config.learning_rate_final
    decay = DECAYS[config.learning_rate_decay]
    return decay(start, start if end is None else end, total_steps, warm_up_steps=config.warm_up_env_steps)


def make_optimiser(
    config: OptimiserFields, network: nn.Module, optimisers: Mapping[str, Any] = OPTIMISERS
) -> torch.optim.Optimizer:
    """Make the optimiser of a network's weights, with its penalties and weight decay."""
    optimiser = bare_optimiser(config, [p for p in network.parameters() if p.requires_grad], optimisers)
    penalties = {"l1": config.l1, "l2": config.l2, "weight_decay": config.weight_decay}
    regularise(optimiser, **penalties, only=penalised(network))
    return optimiser


def bare_optimiser(
    config: OptimiserFields, parameters: Iterable[nn.Parameter], optimisers: Mapping[str, Any] = OPTIMISERS
) -> torch.optim.Optimizer:
    """Make the optimiser of parameters, without penalties and weight decay."""
    more = {} if config.adam_epsilon is None else {"epsilon": config.adam_epsilon}
    made: torch.optim.Optimizer = optimisers[config.optimiser](parameters, config.learning_rate, **more)
    return made


def make_clip(config: OptimiserFields) -> Clip:
    """Return the bounds of the gradients."""
    return Clip(config.max_grad_value, config.max_grad_norm, config.normalise_gradients)

"""Fields that every agent with a network has, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces
from torch import nn

from rl_lab.checks import above, at_least, flags, one_of, widths, within
from rl_lab.nn import encoders
from rl_lab.nn.augment import shift_observations
from rl_lab.nn.cores import CORES, carry_shapes
from rl_lab.nn.images import POOLING
from rl_lab.nn.initialise import INITIALISATIONS
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.problem import Problem
from rl_lab.schedules import DECAYS, Schedule
from rl_lab.seeding import Streams
from rl_lab.types import UsageError
from rl_lab.updates.compiling import has_compiler, refuse_folder
from rl_lab.updates.optimisers import OPTIMISERS
from rl_lab.updates.regularise import Clip, regularise

OptimiserName = Literal["adam", "adamw", "rmsprop", "rmsprop-torch", "sgd", "momentum", "nesterov", "adagrad"]
Shift = Callable[[Any, bool], Any]


@dataclass(frozen=True)
class NetworkFields:
    """Which network: encoder, then memory, and what becomes of observations on their way in."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "network": (
            "encoder", "hidden", "activation", "layer_norm", "dropout", "pooling", "embedding_size",
            "initialisation", "memory", "memory_size", "memory_layers", "context", "normalise_observations",
            "random_shift",
        ),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("hidden", "memory")

    encoder: Literal["auto", "mlp", "cnn", "small", "impala", "onehot", "embedding"] = "auto"
    """Network before the memory: auto goes by the observations."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the encoder's dense layers."""
    activation: Literal["relu", "tanh", "elu", "gelu"] = "relu"
    """What follows each dense layer."""
    layer_norm: bool = False
    """Normalise the outputs of the dense layers before each activation."""
    dropout: float = 0.0
    """Probability with which a dense layer's output is dropped in the loss; acting and target networks drop none."""
    pooling: Literal["none", "max", "average"] = "none"
    """How the small convolutions halve an image; none: by their stride."""
    embedding_size: int | None = None
    """Width of the vector learned for each value of discrete observations; None: one-hot, or 16 for embedding."""
    initialisation: Literal["default", "orthogonal", "kaiming"] = "default"
    """Weights at the start; default is torch's."""
    memory: Literal["none", "rnn", "gru", "lstm", "attention"] = "none"
    """What is carried from step to step."""
    memory_size: int = 64
    """Width of the carry."""
    memory_layers: int = 1
    """Cells, or blocks of attention, on top of each other."""
    context: int = 16
    """Steps that attention sees, the present one included."""

    normalise_observations: bool = False
    """Subtract the running mean of the observations and divide by their deviation; images pass as they are."""
    random_shift: int = 0
    """Most pixels by which images are shifted at random when learned from; 0: not at all."""


@dataclass(frozen=True)
class OptimiserFields:
    """How weights move."""

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


def check_network(config: NetworkFields) -> None:
    """Refuse a field of the network.

    Raises:
        UsageError: naming field, value and what is allowed.
    """
    at_least(config, 1, "memory_size", "memory_layers", "embedding_size")
    at_least(config, 2, "context")
    within(config, 0.0, 0.99, "dropout")
    widths(config, "hidden")
    flags(config, "layer_norm", "normalise_observations")
    one_of(config, "encoder", encoders.ENCODERS)
    one_of(config, "activation", tuple(encoders.ACTIVATIONS))
    one_of(config, "pooling", tuple(POOLING))
    one_of(config, "initialisation", tuple(INITIALISATIONS))
    one_of(config, "memory", CORES)
    at_least(config, 0, "random_shift")


def check_optimiser(config: OptimiserFields) -> None:
    """Refuse a field of the optimiser; raises as `check_network` does."""
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


# What they come to -----------------------------------------------------------------------------------


def network_arguments(config: NetworkFields) -> dict[str, Any]:
    """Return what `make_q_network` and `make_actor_critic` take."""
    names = {field.name for field in fields(NetworkFields)} - {"random_shift"}
    return {name: getattr(config, name) for name in names}


def shifting(config: NetworkFields, space: spaces.Space, streams: Streams) -> Shift:
    """Return (observations, over time?) -> observations: shifted at random where that is asked for."""
    if not config.random_shift:
        return lambda obs, over_time: obs
    rng = streams["shift"]
    return lambda obs, over_time: shift_observations(
        obs, space, rng, config.random_shift, over_time=over_time
    )


def carry_of(config: NetworkFields) -> Sequence[tuple[int, ...]]:
    """Return the shapes of the carry's float32 parts for one environment."""
    return carry_shapes(
        config.memory, config.memory_size, layers=config.memory_layers, context=config.context
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


def refuse_network(config: NetworkFields, space: spaces.Space) -> str | None:
    """Say why there is no such network for observations of this space, or none can learn here; None if one can."""
    if (reason := encoders.refuse(config.encoder, space, pooling=config.pooling)) is not None:
        return reason
    if config.normalise_observations and not ObservationNormaliser(space).has_moments:
        return f"normalise_observations finds nothing to normalise in {space} (allowed: false)"
    if config.random_shift and not encoders.has_image(space):
        return f"random_shift {config.random_shift} finds no image in {space} (allowed: 0)"
    return refuse_folder()


ELSE_EAGER: dict[str, Any] = {
    "memory": "none", "dropout": 0.0, "normalise_observations": False, "optimiser": "adam", "l1": 0.0, "l2": 0.0,
    "weight_decay": 0.0,
}  # fmt: skip
"""What a compiled update takes for granted: it is a function of weights, Adam's moments and batch alone."""


def refuse_compiling(config: Any) -> str | None:
    """Say why an agent's update can't be compiled; None if it can."""
    for name, value in ELSE_EAGER.items():
        if getattr(config, name) != value:
            return f"goes with {name} {value!r} alone"
    return None if has_compiler() else "needs a C++ compiler, and there is none"


PAYS_BACK_GRADIENT_STEPS = 15_000
"""Compiling takes ten to twenty-five seconds, for a network and its hyperparameters once on a machine, and saves
about a millisecond a step: it is paid back by the second run at the latest."""


def settle_compiling(config: Any, problem: Problem, gradient_steps: int, refused: str | None) -> Any:
    """Return the config with `compile` decided, by whether a budget of so many gradient steps pays compiling back.

    Args:
        refused: why the update can't be compiled; None if it can.

    Raises:
        UsageError: compiling is asked for on another device than the CPU.
    """
    if config.compile == "yes" and problem.device != "cpu":
        raise UsageError(f"compile 'yes' goes with device 'cpu' alone, not {problem.device!r}")
    if config.compile != "auto":
        return config
    image = config.encoder in encoders.CONVOLUTIONAL or encoders.has_image(problem.spec.observation_space)
    pays = (
        gradient_steps >= PAYS_BACK_GRADIENT_STEPS
        and problem.device == "cpu"
        and not image
        and refused is None
    )
    return replace(config, compile="yes" if pays else "no")

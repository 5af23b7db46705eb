"""The decision whether an agent's updates are compiled: whether they can be, and whether it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rl_lab.nn.encoders import has_convolutions
from rl_lab.problem import Problem
from rl_lab.types import UsageError
from rl_lab.updates.compiling import has_compiler

COMPILABLE_VALUES: dict[str, Any] = {
    "memory": "none", "dropout": 0.0, "normalise_observations": False, "l1": 0.0, "l2": 0.0, "weight_decay": 0.0,
}  # fmt: skip
"""The only values with which an update can be compiled: it may depend only on weights, Adam's moments and the batch."""


def refuse_compiling(config: Any, optimisers: Sequence[str] = ("adam",)) -> str | None:
    """Return why an agent's update can't be compiled (the end of a sentence about `compile`), or None if it can.

    Args:
        optimisers: those whose steps the update can take.
    """
    for name, value in COMPILABLE_VALUES.items():
        if getattr(config, name) != value:
            return f"requires {name} {value!r}"
    if config.optimiser not in optimisers:
        return f"requires optimiser {' or '.join(map(repr, optimisers))}"
    return None if has_compiler() else "needs a C++ compiler, and there is none"


BREAK_EVEN_GRADIENT_STEPS = 15_000
"""Gradient steps from which compiling pays. It takes 10 to 30 seconds, once per machine for a network and its
hyperparameters, and saves about a millisecond per step: it pays for itself by the second run at the latest."""
BREAK_EVEN_WITH_IMAGES = 50_000
"""The same for networks with convolutions, where it saves a third of a step on small pictures, and little on games."""


def resolve_compile(config: Any, problem: Problem, gradient_steps: int, reason: str | None) -> Any:
    """Return the config with `compile` "auto" replaced by "yes" if compiling pays, otherwise by "no".

    Args:
        gradient_steps: how many the run will take.
        reason: why the update can't be compiled, or None if it can.

    Raises:
        UsageError: `compile` is "yes" on a device other than the CPU.
    """
    if config.compile == "yes" and problem.device != "cpu":
        raise UsageError(f"compile 'yes' requires device 'cpu', got {problem.device!r}")
    if config.compile != "auto":
        return config
    image = has_convolutions(config.encoder, problem.spec.observation_space, config.channels)
    enough = BREAK_EVEN_WITH_IMAGES if image else BREAK_EVEN_GRADIENT_STEPS
    pays = gradient_steps >= enough and problem.device == "cpu" and reason is None
    return replace(config, compile="yes" if pays else "no")

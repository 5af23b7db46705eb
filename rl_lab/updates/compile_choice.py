"""Whether an agent's updates are compiled: where they can be, and where it pays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rl_lab.nn.encoders import CONVOLUTIONAL, has_image
from rl_lab.problem import Problem
from rl_lab.types import UsageError
from rl_lab.updates.compiling import has_compiler

ELSE_EAGER: dict[str, Any] = {
    "memory": "none", "dropout": 0.0, "normalise_observations": False, "optimiser": "adam", "l1": 0.0, "l2": 0.0,
    "weight_decay": 0.0,
}  # fmt: skip
"""What a compiled update takes for granted: it depends on weights, Adam's moments and the batch alone."""


def refuse_compiling(config: Any) -> str | None:
    """Return why an agent's update can't be compiled; None if it can."""
    for name, value in ELSE_EAGER.items():
        if getattr(config, name) != value:
            return f"goes with {name} {value!r} alone"
    return None if has_compiler() else "needs a C++ compiler, and there is none"


PAYS_BACK_GRADIENT_STEPS = 15_000
"""Gradient steps from which compiling pays. It takes 10 to 25 seconds, once on a machine for a network and its
hyperparameters, and saves about a millisecond a step: the second run at the latest earns it back."""


def settle_compiling(config: Any, problem: Problem, gradient_steps: int, refused: str | None) -> Any:
    """Return the config with `compile` decided: "auto" compiles where so many gradient steps earn it back.

    Args:
        refused: why the update can't be compiled; None if it can.

    Raises:
        UsageError: compiling is asked for on another device than the CPU.
    """
    if config.compile == "yes" and problem.device != "cpu":
        raise UsageError(f"compile 'yes' goes with device 'cpu' alone, not {problem.device!r}")
    if config.compile != "auto":
        return config
    image = config.encoder in CONVOLUTIONAL or has_image(problem.spec.observation_space)
    pays = (
        gradient_steps >= PAYS_BACK_GRADIENT_STEPS
        and problem.device == "cpu"
        and not image
        and refused is None
    )
    return replace(config, compile="yes" if pays else "no")

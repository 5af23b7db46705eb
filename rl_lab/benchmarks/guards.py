"""The cost of checking what environments and gradients give: the same run with and without the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
from torch import Tensor

from rl_lab.benchmarks.training import lab_seconds
from rl_lab.benchmarks.work import Work
from rl_lab.environments.contract import Contract
from rl_lab.replay import frames, transitions
from rl_lab.training.registry import preset_fields
from rl_lab.updates import compiling
from rl_lab.updates import q_updates as updates
from rl_lab.updates.adam import ADAM_BETAS, without_subnormals

KINDS = {
    "": (),
    ", masks of legal actions": ("rl_lab.benchmarks.guards:WithMasks",),
    ", numpy rewards and flags": ("rl_lab.benchmarks.guards:WithNumpyTypes",),
}


def guards() -> list[Work]:
    """Return DQN with the zoo's hyperparameters for CartPole and a small net, 64-64, where checks weigh most.

    It is run on CartPole as it is, and on two forms of it that take the longer ways through the checks.
    """
    compiled: dict[Any, Callable[..., Any]] = {}
    return [_checked_and_unchecked(kind, wrappers, compiled) for kind, wrappers in KINDS.items()]


def _checked_and_unchecked(
    kind: str, wrappers: tuple[str, ...], compiled: dict[Any, Callable[..., Any]]
) -> Work:
    fields = preset_fields("dqn", "zoo:CartPole-v1") | {
        "hidden": (64, 64),
        "total_steps": 20_000,
        "compile": "yes",
        "wrappers": wrappers,
    }

    def without() -> float:
        with unguarded(compiled):
            return lab_seconds("dqn", **fields)

    name = f"dqn, CartPole-v1{kind}, net (64, 64), every reward, flag, mask, observation, loss and gradient checked"
    return Work(name, "unchecked", lambda: lab_seconds("dqn", **fields), without)


class WithMasks(gymnasium.Wrapper):
    """Says in info["action_mask"], int8 [A], that every action is legal."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        obs, info = self.env.reset(**kwargs)
        return obs, info | {"action_mask": np.ones(2, np.int8)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, info | {"action_mask": np.ones(2, np.int8)}


class WithNumpyTypes(gymnasium.Wrapper):
    """Gives rewards as np.float32 and flags as np.bool_."""

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, np.float32(reward), np.bool_(terminated), np.bool_(truncated), info


@contextmanager
def unguarded(compiled: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """Disable all checks within a `with` block; functions compiled without them are kept in `compiled`."""

    def nothing(*_: Any) -> None:
        pass

    def unread(rewards: Any) -> float:
        return 0.0

    patches: list[Any] = [
        patch.object(Contract, "step", bare_step),
        patch.object(frames, "require_finite", nothing),
        patch.object(transitions, "require_finite", nothing),
        patch.object(transitions, "total_of", lambda num_envs: unread),
        patch.object(updates, "require_finite", nothing),
        patch.object(updates, "adam_step", bare_adam_step),
        patch.object(compiling, "_COMPILED", compiled),
        patch.object(updates, "_finite_steps", lambda outcome: len(outcome.loss)),
    ]
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def bare_step(env: Contract, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Take a step and believe what comes; only the types are those that `Contract.step` returns."""
    obs, reward, terminated, truncated, info = env.env.step(action)
    if "action_mask" in info:
        info = {**info, "action_mask": info["action_mask"].astype(np.bool_)}
    return obs, float(reward), bool(terminated), bool(truncated), info


def bare_adam_step(
    weight: Tensor, gradient: Tensor, average: Tensor, square: Tensor, coefficient: Tensor, valid: Tensor
) -> None:
    """Do the same as `adam_step`, but move the weight [...] whatever the gradient is; `valid` is ignored."""
    new_average = without_subnormals(average * ADAM_BETAS[0] + gradient * (1 - ADAM_BETAS[0]))
    new_square = without_subnormals(square * ADAM_BETAS[1] + gradient.square() * (1 - ADAM_BETAS[1]))
    weight.copy_(
        weight - coefficient[0] * new_average / (new_square.sqrt() / coefficient[1] + coefficient[2])
    )
    average.copy_(new_average)
    square.copy_(new_square)

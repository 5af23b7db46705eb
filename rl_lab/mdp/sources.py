"""Where environments keep their models, and whether what is played through wrappers is still that model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers

from rl_lab.types import Array

# Wrappers that change neither observations, actions, rewards nor when an episode terminates.
_TRANSPARENT = (
    wrappers.TimeLimit,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.RecordVideo,
    wrappers.RenderCollection,
    wrappers.HumanRendering,
)


def is_untouched(env: gymnasium.Env) -> bool:
    """Return whether the wrappers around an environment leave what it plays alone."""
    base = env.unwrapped
    if env.observation_space != base.observation_space or env.action_space != base.action_space:
        return False
    while isinstance(env, gymnasium.Wrapper):
        if not _is_transparent(env):
            return False
        env = env.env
    return True


def _is_transparent(wrapper: gymnasium.Wrapper) -> bool:
    kind = type(wrapper)
    passes_all = kind.step is gymnasium.Wrapper.step and kind.reset is gymnasium.Wrapper.reset
    return passes_all or isinstance(wrapper, _TRANSPARENT) or bool(getattr(kind, "keeps_model", False))


def own_method(base: Any) -> Callable[[], Any] | None:
    """Return the environment's method `model()` if it has one that takes no arguments.

    Whatever else is called `model` is the environment's own affair: a network, a property, a method that
    takes a state and an action.
    """
    found = inspect.getattr_static(base, "model", None)
    if not inspect.isroutine(found) and not isinstance(found, staticmethod | classmethod):
        return None
    method = base.model
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):
        return None
    return method


def has_toy_text(base: Any) -> bool:
    """Return whether an environment has toy-text's `P[state][action]` and `initial_state_distrib`.

    Attributes of these names that are built otherwise, an array `P` say, are the environment's own affair.
    """
    table: Any = getattr(base, "P", None)
    initial: Any = getattr(base, "initial_state_distrib", None)
    if not isinstance(table, Mapping) or not table or set(table) != set(range(len(table))):
        return False
    if np.shape(initial) != (len(table),):
        return False
    return all(
        isinstance(rows, Mapping) and rows and all(map(_is_row, rows.items())) for rows in table.values()
    )


def is_fickle(base: Any) -> bool:
    """Return whether this is a Taxi whose passenger may change the destination, which its state doesn't show."""
    return bool(getattr(base, "fickle_passenger", False))


def _is_row(item: tuple[Any, Any]) -> bool:
    """Return whether (action, outcomes) are a number and tuples (probability, successor, reward, terminated)."""
    action, outcomes = item
    if not isinstance(action, int | np.integer) or not isinstance(outcomes, list | tuple):
        return False
    return all(isinstance(outcome, list | tuple) and len(outcome) == 4 for outcome in outcomes)


def read_masks(base: Any, num_states: int) -> Array:
    """Return the actions that toy-text's `action_mask(state)` allows, bool [S, A]; all where it allows none."""
    masks = np.array([base.action_mask(state) for state in range(num_states)], dtype=bool)
    return masks | ~masks.any(axis=1, keepdims=True)  # a state without legal actions is the end of an episode

"""Warm starts: an agent begins with the weights of another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rl_lab.agent import Agent
from rl_lab.types import UsageError


def load_initial_weights(agent: Agent, weights: Mapping[str, Any]) -> None:
    """Give an agent the weights of another run; everything else of it stays fresh.

    Raises:
        UsageError: names or shapes of the weights differ.
    """
    own = {name: tuple(value.shape) for name, value in agent.state_dict()["weights"].items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    for name in own | given:
        if own.get(name) != given.get(name):
            raise UsageError(f"init_from: {_difference(name, own, given)}")
    agent.load_state_dict({"weights": weights})


def _difference(name: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Say how the weights `name` differ: shapes by name, of this run's weights and of those given."""
    if name in own and name in given:
        return f"weights {name!r} have shape {given[name]} there (allowed here: {own[name]})"
    has, lacks = ("that run", "this one") if name in given else ("this run", "that one")
    return (
        f"{has} has weights {name!r}, {lacks} has none (allowed: the same kind of agent and network in both)"
    )

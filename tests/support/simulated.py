"""Simulated learners for tests, and what they did, step by step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from rl_lab.mdp import simulate as module
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.rules import Q_LEARNING
from rl_lab.mdp.learning.step_sizes import BY_TIME
from rl_lab.mdp.simulated_learners import AT_ONCE, Kind, Numbers, SimulatedLearner
from rl_lab.mdp.simulated_loop import make_loop

PLAIN_Q = Kind(AT_ONCE, Q_LEARNING, EPSILON_GREEDY, BY_TIME)  # the one kind that quick tests compile


def learner(
    kind: Kind = PLAIN_Q, *, epsilon=(1.0, 0.1), rate=(0.5, 0.1), over=1000, exploring=1.0, **numbers
):
    """Return a learner whose step size falls over so many steps, and epsilon over this share of them."""
    given = {"gamma": 0.9, "power": 0.7, "decay": 0.0, "n": 1} | numbers
    return SimulatedLearner(
        kind, Numbers(
            gamma=given["gamma"],
            parameter_start=epsilon[0], parameter_end=epsilon[1], parameter_steps=exploring * over,
            rate_start=rate[0], rate_end=rate[1], rate_steps=float(over), power=given["power"], decay=given["decay"],
            n=given["n"],
        )
    )  # fmt: skip


@pytest.fixture
def in_python(monkeypatch):
    """Run the loops of simulations as plain Python, so that nothing is compiled."""
    monkeypatch.setattr(module, "compiled_loop", make_loop)
    with np.errstate(over="ignore"):
        yield


class Happened(NamedTuple):
    """The steps of one learner, [T] each."""

    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_state: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    is_first: np.ndarray


def happened(simulation, trail, k: int = 0, limit: int | None = None) -> Happened:
    """Return what the trail of learner k says; its first step has to open an episode."""
    world, rows, columns = simulation.world, trail.rows[k], trail.columns[k]
    state, action = np.divmod(rows, simulation.model.num_actions)
    terminated = world.ends[columns]
    truncated, is_first = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    length = 0
    for t in range(len(rows)):
        is_first[t] = length == 0
        length += 1
        truncated[t] = not terminated[t] and length == limit
        if terminated[t] or truncated[t]:
            length = 0
    return Happened(
        state.astype(int), action.astype(int), world.reward[columns], world.successor[columns].astype(int),
        terminated, truncated, is_first,
    )  # fmt: skip

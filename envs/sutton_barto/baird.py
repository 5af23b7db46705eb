"""Baird's counterexample of section 11.2, on which semi-gradient off-policy learning diverges."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from gymnasium import spaces

from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

STATES = 7
UPPER = STATES - 1  # the states that dashed leads to
DASHED, SOLID = 0, 1
FIRST_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0)  # from which the book starts


class Baird(TabularEnv):
    """Move between seven states without any reward, seen through eight features.

    Action 0 (dashed) leads to one of the first six states, each equally likely; action 1 (solid) leads to the seventh.
    The observation is the features of the state, float64 [8], which an action's weights turn into its value: 2 in
    its own place and 1 in the last for the first six states, and for the seventh 1 in its own place and 2 in the last.
    All values are 0, and weights of 0 say so exactly. The problem never terminates. Each state is an equally likely
    start, and the registered environment cuts episodes after a single step: so all states are visited equally often,
    whatever the policy, as by the book's, which takes solid one time in seven. The book discounts with 0.99.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., section 11.2 (figures 11.1 and 11.2);
    Baird, "Residual Algorithms: Reinforcement Learning with Function Approximation", 1995.
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        space = spaces.Box(0.0, 2.0, (STATES + 1,), np.float64)
        super().__init__(_make_model(), render_mode=render_mode, observation_space=space)

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.state_circle import state_circle_panel

        return state_circle_panel([np.arange(STATES) for _ in range(STATES)], "Baird's star")


def features_of(states: Array) -> Array:
    """Return the features of states int [K], as float64 [K, 8]."""
    table = np.zeros((STATES, STATES + 1))
    table[np.arange(UPPER), np.arange(UPPER)] = 2.0
    table[:UPPER, -1] = 1.0
    table[UPPER, UPPER:] = (1.0, 2.0)
    return table[np.asarray(states)]


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    rows = [
        (state, DASHED, 1.0 / UPPER, target, 0.0, False) for state in range(STATES) for target in range(UPPER)
    ]
    rows += [(state, SOLID, 1.0, UPPER, 0.0, False) for state in range(STATES)]
    initial = np.full(STATES, 1.0 / STATES)
    return TabularModel.from_outcomes(rows, STATES, 2, initial, observe=features_of)

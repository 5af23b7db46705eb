"""Small environments in which one cause of regret, or of wrong values, stands alone; and brute-force twins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import gymnasium
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import policy_evaluation


class TwoStates(TabularEnv):
    """Alternates between two states, the second of which pays 1; every step ends the episode with probability 0.1.

    Both actions do the same, and episodes begin in the paying state, which is worth 1 / (1 - 0.81^2) = 2.908 at gamma
    0.9.
    """

    def __init__(self, *, render_mode=None):
        super().__init__(two_states(), render_mode=render_mode)


class CountedFromFive(TwoStates):
    """The same with actions 5 and 6."""

    def __init__(self, *, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.action_space = spaces.Discrete(2, start=5)

    def step(self, action):
        return super().step(action - 5)


def two_states() -> TabularModel:
    outcomes = [
        (state, action, probability, 1 - state, float(state), ends)
        for state in (0, 1)
        for action in (0, 1)
        for probability, ends in ((0.9, False), (0.1, True))
    ]
    return TabularModel.from_outcomes(outcomes, 2, 2, [0.0, 1.0])


class Checkerboard(TabularEnv):
    """Shows a cell of a board, (row, column); the action that names its colour pays 1. Cells come in a row."""

    def __init__(self, *, size: int = 4, render_mode=None):
        cells = np.stack(np.divmod(np.arange(size**2), size), axis=1)
        shown = (cells / (size - 1)).astype(np.float32)
        states, actions = size**2, 2
        right = (cells.sum(axis=1) % 2)[:, None] == np.arange(actions)
        model = TabularModel.from_arrays(
            np.ones((states, actions, 1)),
            np.broadcast_to((np.arange(states) + 1)[:, None, None] % states, (states, actions, 1)),
            right[:, :, None].astype(float),
            False,
            observe=lambda some: shown[some],
        )
        super().__init__(
            model,
            render_mode=render_mode,
            observation_space=spaces.Box(0.0, 1.0, (2,), np.float32),
        )


class LookAlike(TabularEnv):
    """Two states that go on for ever and show the same."""

    def __init__(self, *, render_mode=None):
        model = TabularModel.from_outcomes(
            [(s, 0, 1.0, 1 - s, 0.0, False) for s in (0, 1)],
            2,
            1,
            [0.5, 0.5],
            observe=lambda some: np.zeros((len(some), 1), np.float32),
        )
        super().__init__(
            model, render_mode=render_mode, observation_space=spaces.Box(0.0, 1.0, (1,), np.float32)
        )


for kind in (TwoStates, CountedFromFive, Checkerboard, LookAlike):
    name = f"diagnosed/{kind.__name__}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, kind, max_episode_steps=50)


# Brute force -----------------------------------------------------------------------------------------


def all_choices(available: np.ndarray) -> Iterator[np.ndarray]:
    """Yield every deterministic policy as int [S], for available bool [S, A]."""
    yield from map(np.array, itertools.product(*(np.flatnonzero(row) for row in available)))


def return_of(model: TabularModel, policy: np.ndarray, gamma: float) -> float:
    return float(model.initial @ policy_evaluation(model, policy, gamma))


def best_by_enumeration(model: TabularModel, policy: np.ndarray, choices: np.ndarray, gamma: float) -> float:
    """The best return of policies that take one of `choices` (bool [S, A]) or, in a state, keep to `policy`."""
    best, eye = return_of(model, policy, gamma), np.eye(model.num_actions)
    keep = np.ones((len(policy), 1), bool)
    for chosen in all_choices(np.concatenate((choices & model.available, keep), axis=1)):
        own = chosen == model.num_actions
        mixed = np.where(own[:, None], policy, eye[np.where(own, 0, chosen)])
        best = max(best, return_of(model, mixed, gamma))
    return best


@st.composite
def small_models(draw) -> TabularModel:
    """Models of 2 to 4 states and 2 actions whose episodes may end."""
    states, actions, branches = draw(st.integers(2, 4)), 2, draw(st.integers(1, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (states, actions, branches)
    available = rng.random((states, actions)) < 0.85
    available[:, 0] |= ~available.any(axis=1)
    return TabularModel.from_arrays(
        rng.dirichlet(np.ones(branches), shape[:2]),
        rng.integers(0, states, shape),
        rng.integers(-3, 4, shape).astype(float),
        rng.random(shape) < 0.2,
        initial=rng.dirichlet(np.ones(states)),
        available=available,
    )

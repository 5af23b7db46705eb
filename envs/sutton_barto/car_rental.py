"""Jack's car rental of example 4.2."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import special

from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

CAPACITY = 20  # cars at each place
SIZE = CAPACITY + 1  # states of one place
MAX_MOVED = 5
REQUESTS, RETURNS = (3.0, 4.0), (3.0, 2.0)  # Poisson means per day at the first and the second place
RENTAL_REWARD, MOVE_REWARD = 10.0, -2.0


class CarRental(TabularEnv):
    """Move cars between two places overnight, so that they are where customers want them.

    The state is 21 * first + second, the numbers of cars at both places at the end of a day, 0..20 each. Action a
    moves a - 5 cars from the first place to the second, or back if that is negative. Actions that move more cars
    than there are are unavailable, and count as moving all of them. Moving a car costs 2, renting one out earns 10,
    and cars beyond 20 are taken away. Cars that are returned can be rented the next day. The problem never
    terminates. The book discounts with 0.9 and names no start; here it is 10 cars at each place.

    The transition probabilities are exact. The cars present bound the rentals and the room for 20 bounds the
    returns, so the probability of all larger Poisson numbers goes to the bound instead of being cut off. The reward
    of an outcome is its expectation given the successor, because listing the numbers of rentals separately would
    turn two million outcomes into eighty million. That changes no value and no policy, only the noise in returns.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 4.2 (figure 4.2).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        """Make the environment. Raises ValueError for an unknown render mode."""
        super().__init__(_make_model(), render_mode=render_mode)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions: how many cars go from the first place to the second."""
        return [f"move {k:+d}" if k else "move none" for k in range(-MAX_MOVED, MAX_MOVED + 1)]

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.sutton_barto_panels import car_rental_panel

        return car_rental_panel(CAPACITY, MAX_MOVED)


def follow_day(requests: float, returns: float) -> tuple[Array, Array]:
    """Return what one day does to the number of cars at one place.

    Args:
        requests: Poisson mean of the cars requested.
        returns: Poisson mean of the cars returned.

    Returns:
        Two arrays float64 [21, 21], from cars in the morning to cars in the evening: the probability, and the sum
        over all numbers of rentals of probability * rentals.
    """
    chance, rented = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for morning in range(SIZE):
        for out, p_out in enumerate(bounded_poisson(requests, morning)):
            left = morning - out
            p = p_out * bounded_poisson(returns, CAPACITY - left)
            chance[morning, left:] += p
            rented[morning, left:] += p * out
    return chance, rented


@lru_cache(maxsize=128)
def bounded_poisson(mean: float, most: int) -> Array:
    """Return the distribution float64 [most + 1] of min(n, most), where n is a Poisson number."""
    n = np.arange(most + 1)
    p = np.exp(n * np.log(mean) - mean - special.gammaln(n + 1))
    p[most] = special.gammainc(most, mean)  # the probability of `most` or more
    return p


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    state, action = (index.ravel() for index in np.indices((SIZE * SIZE, 2 * MAX_MOVED + 1)))
    first, second = np.divmod(state, SIZE)
    wanted = action - MAX_MOVED
    moved = np.clip(wanted, -second, first)
    morning = np.minimum(first - moved, CAPACITY) * SIZE + np.minimum(second + moved, CAPACITY)
    chance, rented = _join_places()
    # Many pairs of state and action lead to the same morning; the outcomes are those of the morning.
    probability = chance[morning]  # [S * A, S]
    earned = RENTAL_REWARD * rented[morning] / probability + (MOVE_REWARD * np.abs(moved))[:, None]
    states = SIZE * SIZE
    return TabularModel(
        indptr=np.arange(len(state) + 1) * states,
        probability=(probability / probability.sum(axis=1, keepdims=True)).ravel(),
        successor=np.tile(np.arange(states), len(state)),
        reward=earned.ravel(),
        terminated=np.zeros(len(state) * states, dtype=bool),
        initial=spread_evenly(np.array([10 * SIZE + 10]), states),
        available=(moved == wanted).reshape(states, 2 * MAX_MOVED + 1),
    )


def _join_places() -> tuple[Array, Array]:
    """Return `follow_day` of both places together, two arrays float64 [441, 441]."""
    (p1, r1), (p2, r2) = (follow_day(*rates) for rates in zip(REQUESTS, RETURNS, strict=True))
    return np.kron(p1, p2), np.kron(r1, p2) + np.kron(p1, r2)

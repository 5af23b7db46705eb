"""Jack's car rental of example 4.2."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from rl_lab.envs.tabular import TabularEnv, spread_evenly
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

if TYPE_CHECKING:
    from rl_lab.envs.canvas import Panel

CAPACITY = 20
SIZE = CAPACITY + 1
MAX_MOVED = 5
REQUESTS, RETURNS = (3.0, 4.0), (3.0, 2.0)  # Poisson means per day, at the first and the second place
RENTAL_REWARD, MOVE_REWARD = 10.0, -2.0


class CarRental(TabularEnv):
    """Move cars between two places overnight, so that they are where they are asked for.

    The state is 21 * first + second, the cars at each place at the end of a day, 0..20. Action a
    moves a - 5 cars from the first place to the second (negative: back), of which those are available
    for which there are cars; more counts as all of them. Each car moved costs 2, each rented
    earns 10; cars beyond 20 leave. Cars returned can be rented the next day. It never ends; the
    book discounts with 0.9 and names no start: it is 10 cars at each place here.

    The transition probabilities are exact, without a cut-off: the cars at hand and the room for 20
    bound both Poisson numbers, so that what is above counts as the bound. Rewards are those
    expected given the state that follows: listing each number of rentals apart would make the
    two million outcomes eighty. That changes no value and no policy, only the noise of returns.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 4.2
    (figure 4.2).
    """

    def __init__(self, *, render_mode: str | None = None) -> None:
        super().__init__(_make_model(), render_mode=render_mode)

    def _make_picture(self) -> Panel:
        from rl_lab.envs.panels import car_rental_panel

        return car_rental_panel(CAPACITY)


def follow_day(requests: float, returns: float) -> tuple[Array, Array]:
    """Return what a day does to one place, [21, 21] each: from cars in the morning to cars in the evening.

    That is the probability of each evening, and the sum over its rentals of probability * rentals.
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
    """Return the distribution [most + 1] of min(n, most) for Poisson n."""
    n = np.arange(most + 1)
    p = np.exp(n * np.log(mean) - mean - special.gammaln(n + 1))
    p[most] = special.gammainc(most, mean)  # the chance of at least so many
    return p


@lru_cache(maxsize=1)
def _make_model() -> TabularModel:
    state, action = (index.ravel() for index in np.indices((SIZE * SIZE, 2 * MAX_MOVED + 1)))
    first, second = np.divmod(state, SIZE)
    wanted = action - MAX_MOVED
    moved = np.clip(wanted, -second, first)
    morning = np.minimum(first - moved, CAPACITY) * SIZE + np.minimum(second + moved, CAPACITY)
    chance, rented = _join_places()
    # Both places together have few mornings: each row of outcomes is one of theirs.
    probability = chance[morning]  # [S * A, S]
    earned = RENTAL_REWARD * rented[morning] / probability + (MOVE_REWARD * np.abs(moved))[:, None]
    successors = SIZE * SIZE
    return TabularModel(
        indptr=np.arange(len(state) + 1) * successors,
        probability=(probability / probability.sum(axis=1, keepdims=True)).ravel(),
        successor=np.tile(np.arange(successors), len(state)),
        reward=earned.ravel(),
        terminated=np.zeros(len(state) * successors, dtype=bool),
        initial=spread_evenly(np.array([10 * SIZE + 10]), successors),
        available=(moved == wanted).reshape(successors, 2 * MAX_MOVED + 1),
    )


def _join_places() -> tuple[Array, Array]:
    """Return `follow_day` of both places together, [441, 441] each."""
    (p1, r1), (p2, r2) = (follow_day(*rates) for rates in zip(REQUESTS, RETURNS, strict=True))
    return np.kron(p1, p2), np.kron(r1, p2) + np.kron(p1, r2)

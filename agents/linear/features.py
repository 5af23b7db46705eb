"""Features of linear values: tile coding, the Fourier basis, one per discrete observation, or the observation itself.

Tile coding: Albus (1975), "A New Approach to Manipulator Control: The Cerebellar Model Articulation Controller",
https://doi.org/10.1115/1.3426922, with the asymmetric offsets of Sutton and Barto, "Reinforcement Learning: An
Introduction", 2nd ed., section 9.5.4, where the k-th tiling is moved by k times the first odd numbers; tiles are kept
in a table of their own each, without hashing, so that none collide.

Fourier basis: Konidaris, Osentoski and Thomas (2011), "Value Function Approximation in Reinforcement Learning Using the
Fourier Basis", https://ojs.aaai.org/index.php/AAAI/article/view/7903, cosines alone, with step sizes divided by the
length of each feature's coefficients.

All work in two steps: `read` turns observations into points [N, D], which are what is stored, and `active` turns points
into the features that aren't 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np
from scipy import sparse

from rl_lab.types import Array, Obs


class Active(NamedTuple):
    """The features of N points that aren't 0, K of each."""

    number: Array  # int64 [N, K], of the features
    value: Array  # float64 [N, K]


class Features(Protocol):
    """Turns observations into features."""

    description: str  # in a few words, as in "8 tilings of 9 x 9 tiles"
    dimensions: int  # D, entries of a point
    count: int  # F, all features
    width: int  # K, those that `active` lists
    step_scale: Array  # [F]: factor of the step size of each feature's weights
    binary: bool  # whether the active ones are all 1

    def read(self, obs: Obs) -> Array:
        """Return observations [N, ...] as points, float64 [N, D].

        Raises:
            FloatingPointError: one isn't finite.
        """

    def active(self, points: Array) -> Active:
        """Return the features of points [N, D] that aren't 0."""

    def constant(self, value: float) -> Array:
        """Return weights [F] that give every point this value, or, where there are none, are all equal to it."""


def matrix_of(features: Features, points: Array) -> Array | sparse.csr_matrix:
    """Return the features of points [N, D] as [N, F], as a sparse matrix where few of them are active."""
    number, value = features.active(points)
    if features.width == features.count:
        return value  # `active` lists them in order
    offsets = np.arange(len(number) + 1) * features.width
    return sparse.csr_matrix((value.ravel(), number.ravel(), offsets), shape=(len(number), features.count))


class UnitCube:
    """Maps a Box to the unit cube, bound to bound; what lies outside the bounds is moved to the nearest.

    Args:
        low: smallest values [D].
        high: largest values [D], above `low`.
    """

    def __init__(self, low: Array, high: Array):
        self._low, self._size = np.asarray(low, np.float64), np.asarray(high, np.float64) - low

    def read(self, obs: Obs) -> Array:
        """Return observations [N, ...] as points of the cube, float64 [N, D].

        Raises:
            FloatingPointError: one isn't finite.
        """
        return np.clip((flattened(obs) - self._low) / self._size, 0.0, 1.0)


def flattened(obs: Obs) -> Array:
    """Return observations [N, ...] as float64 [N, D].

    Raises:
        FloatingPointError: one isn't finite.
    """
    points = np.asarray(obs, np.float64)
    points = points.reshape(len(points), -1)
    if not np.isfinite(points).all():
        raise FloatingPointError(f"observation {points[~np.isfinite(points)][0]} isn't finite")
    return points


class Tiles:
    """Several grids laid over a Box, each moved a little against the others; a point is in one tile of each.

    Args:
        read: maps observations to points of the unit cube.
        tilings: grids, T.
        tiles: tiles along each dimension, [D]. A grid has one more, since it is moved.
    """

    binary = True

    def __init__(self, read: Callable[[Obs], Array], tilings: int, tiles: Sequence[int]):
        self.read, self._tiles = read, np.array(tiles, np.int64)
        self.dimensions, self.width = len(tiles), tilings
        sides = self._tiles + 1
        self.count = tilings * int(np.prod(sides))
        self.description = f"{tilings} tilings of {' x '.join(map(str, sides))} tiles"
        self.step_scale = np.full(self.count, 1.0 / tilings)
        odd = 2 * np.arange(self.dimensions) + 1
        self._offset = np.outer(np.arange(tilings), odd) % tilings / tilings  # [T, D], in tiles
        self._weight = np.cumprod([1, *sides[:0:-1]], dtype=np.int64)[::-1]  # of each coordinate
        self._first = np.arange(tilings) * int(np.prod(sides))  # feature of each grid

    def active(self, points: Array) -> Active:
        """Return the tile of each grid that holds the points [N, D]; T features of value 1."""
        place = np.floor((points * self._tiles)[:, None] + self._offset).astype(np.int64)  # [N, T, D]
        number = place @ self._weight + self._first
        return Active(number, np.ones(number.shape))

    def constant(self, value: float) -> Array:
        """Return weights [F] that give every point this value."""
        return np.full(self.count, value / self.width)


class Fourier:
    """Cosines cos(pi c . x) of points of the unit cube, for all c of whole numbers up to an order.

    Args:
        read: maps observations to points of the unit cube.
        coefficients: c of each feature, int64 [F, D], as `fourier_coefficients` lists them.
    """

    binary = False

    def __init__(self, read: Callable[[Obs], Array], coefficients: Array):
        self.read, self._coefficients = read, coefficients
        self.count, self.dimensions = coefficients.shape
        self.width = self.count
        self.description = f"{self.count} cosines"
        length = np.linalg.norm(coefficients, axis=1)
        self.step_scale = 1.0 / np.where(length > 0, length, 1.0)

    def active(self, points: Array) -> Active:
        """Return all cosines of points [N, D]."""
        value = np.cos(np.pi * (points @ self._coefficients.T))
        return Active(np.broadcast_to(np.arange(self.count), value.shape), value)

    def constant(self, value: float) -> Array:
        """Return weights [F] that give every point this value: that of the constant feature, which is the first."""
        return np.where(np.arange(self.count) == 0, value, 0.0)


def fourier_coefficients(dimensions: int, order: int, interactions: int | None = None) -> Array:
    """Return the coefficients of all features, int64 [F, D]; the first are all 0.

    Args:
        order: largest coefficient.
        interactions: most dimensions that one feature combines; None for all.
    """
    most = dimensions if interactions is None else min(interactions, dimensions)
    blocks = []
    for combined in range(most + 1):
        values = (
            1 + np.indices((order,) * combined).reshape(combined, order**combined).T
        )  # [order^combined, combined]
        for which in combinations(range(dimensions), combined):
            block = np.zeros((len(values), dimensions), np.int64)
            block[:, list(which)] = values
            blocks.append(block)
    return np.concatenate(blocks)


class OneHot:
    """A feature for each observation of a discrete space, so that the learned values are a table.

    Args:
        row_of: maps observations [N, ...] to their numbers, int64 [N].
        count: how many observations there are.
    """

    binary = True
    dimensions = width = 1

    def __init__(self, row_of: Callable[[Obs], Array], count: int):
        self._row_of, self.count = row_of, count
        self.description = f"{count} observations"
        self.step_scale = np.ones(count)

    def read(self, obs: Obs) -> Array:
        """Return the numbers of observations, float64 [N, 1]."""
        return np.asarray(self._row_of(obs), np.float64)[:, None]

    def active(self, points: Array) -> Active:
        """Return the one feature of each point [N, 1], of value 1."""
        return Active(points.astype(np.int64), np.ones(points.shape))

    def constant(self, value: float) -> Array:
        """Return weights [F] that give every observation this value."""
        return np.full(self.count, value)


class Raw:
    """The entries of the observation themselves."""

    binary = False

    def __init__(self, dimensions: int):
        self.dimensions = self.count = self.width = dimensions
        self.description = f"{dimensions} entries of the observation"
        self.step_scale = np.ones(dimensions)

    def read(self, obs: Obs) -> Array:
        """Return observations [N, ...] as float64 [N, D].

        Raises:
            FloatingPointError: one isn't finite.
        """
        return flattened(obs)

    def active(self, points: Array) -> Active:
        """Return the entries of points [N, D]."""
        return Active(np.broadcast_to(np.arange(self.count), points.shape), points)

    def constant(self, value: float) -> Array:
        """Return weights [F] that are all equal to this value; no weights give every observation the same."""
        return np.full(self.count, value)

"""Draws transitions in proportion to their last TD error.

Schaul et al. (2016), "Prioritized Experience Replay", https://arxiv.org/abs/1511.05952: the proportional
variant, with stratified draws, and importance weights divided by the batch's largest.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from rl_lab.jit import compile_kernels
from rl_lab.types import Array


class Prioritised:
    """Draws with probability proportional to priority ** alpha, where priority = |TD error| + epsilon.

    New transitions get the largest priority seen so far, 1 at first.

    Raises:
        ValueError: `alpha` or `epsilon` is out of range.
    """

    def __init__(self, alpha: float = 0.6, epsilon: float = 1e-6):
        if not 0 <= alpha <= 1 or not 0 < epsilon < float("inf"):
            raise ValueError(f"alpha {alpha} must lie in [0, 1] and epsilon {epsilon} be above 0")
        self.alpha, self.epsilon = alpha, epsilon
        self.largest = 1.0  # the largest priority so far
        self._stop = 0  # the end of the indices ever added

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return self.tree.total == 0.0

    def bytes_for(self, capacity: int) -> int:
        """Return the size of the tree in bytes."""
        return 16 * leaves_for(capacity)

    def allocate(self, capacity: int) -> None:
        """Create the tree."""
        self.tree = SumTree(capacity)

    def added(self, first: int, stop: int) -> None:
        """Give the new transitions at `first:stop` the largest priority, so that each is drawn soon."""
        self.tree[np.arange(first, stop)] = np.full(stop - first, self.largest**self.alpha)
        self._stop = max(self._stop, stop)

    def expired(self, first: int, stop: int) -> None:
        """Never draw the transitions at `first:stop` again."""
        self.tree[np.arange(first, stop)] = np.zeros(stop - first)

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, Array]:
        """Draw one index from each of B equal shares of the sum.

        Returns:
            Indices int64 [B] and importance weights float32 [B], the largest of which is 1.
        """
        total = self.tree.total
        index = self.tree.find((np.arange(batch_size) + rng.random(batch_size)) * (total / batch_size))
        weight = (held * self.tree[index] / total) ** -beta
        return index, (weight / weight.max()).astype(np.float32)

    def update(self, index: Array, td_errors: Array) -> None:
        """Set priorities from TD errors [B]; if an index occurs twice, its last error counts.

        Raises:
            FloatingPointError: an error isn't finite; nothing is changed.
        """
        priority = np.abs(td_errors, dtype=np.float64) + self.epsilon
        if not np.isfinite(priority).all():
            raise FloatingPointError(f"TD errors that are not finite: {np.asarray(td_errors).tolist()}")
        if len(priority):
            self.largest = max(self.largest, float(priority.max()))
            self.tree[index] = priority**self.alpha

    def state_dict(self) -> dict[str, Any]:
        """Return the leaves of the tree, from which the sums follow, and the largest priority."""
        return {"leaves": self.tree.leaves[: self._stop], "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the leaves, after `allocate`, and rebuild the same tree."""
        self._stop, self.largest = len(state["leaves"]), float(state["largest"])
        self.tree.leaves[: self._stop] = state["leaves"]
        self.tree.rebuild()


class SumTree:
    """A binary tree over leaves float64 [capacity] in which each node holds the sum of its children.

    A parent is always computed as left + right, so that the tree is a function of its leaves alone.
    """

    def __init__(self, capacity: int):
        self.size = leaves_for(capacity)
        self._nodes = np.zeros(2 * self.size)  # the children of node k are 2 k and 2 k + 1; the root is 1
        self.leaves = self._nodes[self.size : self.size + capacity]
        self.nbytes = self._nodes.nbytes
        self._kernels = compile_all()

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return float(self._nodes[1])

    def __getitem__(self, index: Array) -> Array:
        """Return the leaves [B] at indices [B]."""
        return self.leaves[index]

    def __setitem__(self, index: Array, values: Array) -> None:
        """Set the leaves at indices [B]; if an index occurs twice, its last value counts.

        Raises:
            IndexError: there is no such leaf.
        """
        if len(index) and not 0 <= index.min() <= index.max() < len(self.leaves):  # kernels don't check
            raise IndexError(f"leaves {index.min()} to {index.max()} (allowed: 0 to {len(self.leaves) - 1})")
        self._kernels.assign(self._nodes, np.ascontiguousarray(index, np.int64), values)

    def find(self, mass: Array) -> Array:
        """Return, for each mass [B], the first leaf at which the sum from the left exceeds it, int64 [B].

        A leaf of 0 is never returned while the total is above 0, whatever the rounding.
        """
        return self._kernels.find(self._nodes, mass)

    def rebuild(self) -> None:
        """Recompute all sums."""
        self._kernels.rebuild(self._nodes)


def leaves_for(capacity: int) -> int:
    """Return the smallest power of two that is at least `capacity`."""
    return 1 << max(0, capacity - 1).bit_length()


# Kernels: the first half of `nodes` holds the sums, the second the leaves --------------------------------


def assign(nodes, index, values):
    """Set the leaves at indices [B], one after the other."""
    for k in range(len(index)):
        node = len(nodes) // 2 + index[k]
        nodes[node] = values[k]
        while node > 1:
            node //= 2
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]


def find(nodes, mass):
    """Return the leaf in which each mass [B] lies, int64 [B]; a sum of 0 is never entered."""
    found = np.empty(len(mass), np.int64)
    for k in range(len(mass)):
        left, node = mass[k], 1
        while node < len(nodes) // 2:
            node *= 2
            if left >= nodes[node] and nodes[node + 1] > 0.0:
                left -= nodes[node]
                node += 1
        found[k] = node - len(nodes) // 2
    return found


def rebuild(nodes):
    """Recompute every sum."""
    for node in range(len(nodes) // 2 - 1, 0, -1):
        nodes[node] = nodes[2 * node] + nodes[2 * node + 1]


@lru_cache(maxsize=1)
def compile_all() -> SimpleNamespace:
    """Return the kernels as machine code; numba is loaded here, so only where priorities are used."""
    return compile_kernels(assign, find, rebuild)

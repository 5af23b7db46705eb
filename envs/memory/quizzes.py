"""Many quizzes at once, in arrays: the memory chain and repeat previous."""

from __future__ import annotations

import numpy as np

from rl_lab.environments.forms import Generators
from rl_lab.types import Array


class Chains:
    """What N `MemoryChain`s of one length play."""

    def __init__(self, length: int, num_bits: int, num_envs: int) -> None:
        self._length, self._num_bits = length, num_bits
        self._places = np.arange(num_envs)
        self._bits = np.zeros((num_envs, num_bits), np.int64)
        self._query, self._steps = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)

    def open(self, i: int, generators: Generators) -> None:
        """Draw the bits, and which of them is asked for."""
        generator = generators[i]
        self._bits[i] = generator.integers(2, size=self._num_bits)
        self._query[i] = generator.integers(self._num_bits)
        self._steps[i] = 0

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Grade the last answers."""
        right = actions == self._bits[self._places, self._query]
        terminated = self._steps == self._length
        reward = np.where(terminated, np.where(right, 1.0, -1.0), 0.0)
        self._steps += 1
        return reward, terminated, np.zeros_like(terminated)

    def see(self) -> Array:
        """Return the time left, the index that is asked for and the bits, float32 [N, 2 + num_bits]."""
        obs = np.zeros((len(self._steps), 2 + self._num_bits), np.float32)
        obs[:, 0] = np.maximum(0.0, 1.0 - self._steps / self._length)
        obs[:, 1] = np.where(self._steps == self._length, self._query, 0)
        obs[:, 2:] = np.where((self._steps == 0)[:, None], 2 * self._bits - 1, 0)
        return obs

    def masks(self) -> None:
        """Return None: all answers are legal."""


class Repetitions:
    """What N `RepeatPrevious`s play, with the same number of symbols and the same k."""

    def __init__(self, k: int, symbols: int, length: int, num_envs: int) -> None:
        self._k, self._symbols, self._length = k, symbols, length
        self._places = np.arange(num_envs)
        self._shown = np.zeros((num_envs, length + 1), np.int64)
        self._steps = np.zeros(num_envs, np.int64)

    def open(self, i: int, generators: Generators) -> None:
        """Draw the symbols."""
        self._shown[i] = generators[i].integers(self._symbols, size=self._length + 1)
        self._steps[i] = 0

    def step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Grade the answers that count."""
        share, asked = 1.0 / (self._length - self._k), self._steps - self._k
        right = actions == self._shown[self._places, np.maximum(asked, 0)]
        reward = np.where(asked < 0, 0.0, np.where(right, share, -share))
        self._steps += 1
        terminated = self._steps == self._length
        return reward, terminated, np.zeros_like(terminated)

    def see(self) -> Array:
        """Return the symbols that are shown, int64 [N]."""
        return self._shown[self._places, self._steps]

    def masks(self) -> None:
        """Return None: all answers are legal."""

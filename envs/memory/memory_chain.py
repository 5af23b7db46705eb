"""The memory chain: bits are shown once, and one of them is asked for at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Moment, Picture
from rl_lab.envs.memory.quiz import Quiz
from rl_lab.envs.memory.quizzes import Chains
from rl_lab.types import Array


class MemoryChain(Quiz):
    """Remember `num_bits` bits for `length` steps, then answer which value one of them had.

    Observations are float32 [2 + num_bits]: the share of time that is left, the index of the bit that is asked for,
    and the bits. The bits are independent and uniform. They are shown as -1 or +1 at the first step only, and are 0
    otherwise. The index is uniform too, and is shown at the last step only. The time left falls evenly from 1 at
    the first step to 0 at the last, which is `length` steps later, so that an episode has length + 1 answers. Only
    the last one counts: 1 if the action, 0 or 1, is the bit that is asked for (1 stands for +1), -1 otherwise.

    The optimal expected return is 1. Without memory it is 0 for any length and number of bits: at the last step
    nothing reveals the bit, and every answer is right with probability 1/2.

    Source: Osband et al., "Behaviour Suite for Reinforcement Learning", ICLR 2020,
    https://arxiv.org/abs/1908.03568, sections "memory length" and "memory size". bsuite's code shows the bits at
    the first two steps; here they are shown once, as in the paper.
    """

    def __init__(self, *, length: int = 10, num_bits: int = 1, render_mode: str | None = None) -> None:
        """Make the chain. Raises ValueError unless `length` and `num_bits` are whole numbers of at least 1."""
        self.length = require_whole("length", length, 1)
        self.num_bits = require_whole("num_bits", num_bits, 1)
        high = np.array([1.0, max(1.0, self.num_bits - 1.0), *[1.0] * self.num_bits], dtype=np.float32)
        low = np.array([0.0, 0.0, *[-1.0] * self.num_bits], dtype=np.float32)
        super().__init__(self.length + 1, 2, spaces.Box(low, high, dtype=np.float32), render_mode)
        self.bits = np.zeros(self.num_bits, dtype=np.int64)  # 0 or 1 each
        self.query = 0

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["bit is 0", "bit is 1"]

    @property
    def optimal_return(self) -> float:
        """The best expected return, with memory."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The best expected return of a policy that sees only the current observation."""
        return 0.0

    def world(self, num_envs: int) -> Chains:
        """Return what so many chains play, in arrays."""
        return Chains(self.length, self.num_bits, num_envs)

    def _prepare(self) -> None:
        self.bits = self.np_random.integers(2, size=self.num_bits)
        self.query = int(self.np_random.integers(self.num_bits))

    def _see(self, step: int) -> Array:
        obs = np.zeros(2 + self.num_bits, dtype=np.float32)
        obs[0] = max(0.0, 1.0 - step / self.length)
        if step == 0:
            obs[2:] = 2 * self.bits - 1
        if step == self.length:
            obs[1] = self.query
        return obs

    def _grade(self, step: int, answer: int) -> float:
        if step < self.length:
            return 0.0
        return 1.0 if answer == self.bits[self.query] else -1.0

    def _describe_moment(self) -> Moment:
        return replace(self._moment, symbols=tuple(self.bits.tolist()), asked=self.query)

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.memory_panels import memory_chain_panel

        return memory_chain_panel(self.length)

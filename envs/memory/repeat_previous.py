"""Repeat previous: name the symbol that was shown some steps ago."""

from __future__ import annotations

from dataclasses import replace

from gymnasium import spaces

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Moment, Picture
from rl_lab.envs.memory.quiz import Quiz
from rl_lab.envs.memory.quizzes import Repetitions


class RepeatPrevious(Quiz):
    """See one of `symbols` symbols at each of `length` steps, and name the one shown `k` steps before.

    The first k answers can't be known and don't count. Each later one earns 1 / (length - k) if it names the
    symbol, and loses as much if it doesn't. Observations and actions are the numbers of symbols.

    The optimal expected return is 1. Without memory it is 2 / symbols - 1 for any length, any k above 0 and any
    policy, because the symbol asked for is independent of the one that is seen. With k = 0 the symbol is in sight,
    and it is 1.

    Source: Morad, Kortvelesy, Bettini, Liwicki and Prorok, "POPGym: Benchmarking Partially Observable Reinforcement
    Learning", ICLR 2023, https://arxiv.org/abs/2303.01859. There the symbols are the suits of cards dealt from
    shuffled decks (easy: 52 steps and k = 4; medium: 104 and 32; hard: 156 and 64). Here symbols are independent
    and uniform, so that counting cards doesn't help and the returns are exact, and k = 1 means the symbol just
    before the current one.
    """

    def __init__(
        self, *, k: int = 4, symbols: int = 4, length: int = 52, render_mode: str | None = None
    ) -> None:
        """Make the environment. Raises ValueError unless 0 <= k < length and symbols >= 2, all whole numbers."""
        self.length = require_whole("length", length, 1)
        self.k = require_whole("k", k, 0, self.length - 1)
        self.symbols = require_whole("symbols", symbols, 2)
        super().__init__(self.length, self.symbols, spaces.Discrete(self.symbols), render_mode)
        self.shown = [0] * (self.length + 1)  # the last one is seen once the episode is over

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return [f"symbol {k}" for k in range(self.symbols)]

    @property
    def optimal_return(self) -> float:
        """The best expected return, with memory."""
        return 1.0

    @property
    def memoryless_return(self) -> float:
        """The best expected return of a policy that sees only the current observation."""
        return 1.0 if self.k == 0 else 2.0 / self.symbols - 1.0

    def world(self, num_envs: int) -> Repetitions:
        """Return what so many of these environments play, in arrays."""
        return Repetitions(self.k, self.symbols, self.length, num_envs)

    def _prepare(self) -> None:
        self.shown = self.np_random.integers(self.symbols, size=self.length + 1).tolist()

    def _see(self, step: int) -> int:
        return self.shown[step]

    def _grade(self, step: int, answer: int) -> float:
        if step < self.k:
            return 0.0
        share = 1.0 / (self.length - self.k)
        return share if answer == self.shown[step - self.k] else -share

    def _describe_moment(self) -> Moment:
        return replace(self._moment, symbols=tuple(self.shown))

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.memory_panels import repeat_previous_panel

        return repeat_previous_panel(self.length, self.k)

"""How many seeds a comparison needs: what a number of runs can see, and how many would see a given difference.

Patterson, Neumann, White, White: "Empirical Design in Reinforcement Learning", JMLR 25, 2024,
https://arxiv.org/abs/2304.01315; Colas, Sigaud, Oudeyer: "How Many Random Seeds?", 2018, https://arxiv.org/abs/1806.08295.

The power is that of Student's t-test on means, which the permutation test follows closely but for very few runs. There,
the number of arrangements decides: with 5 pairs of runs on one task, no p-value is below 2 / 2 ** 5 = 0.0625.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.differences import arrangements
from rl_lab.evaluation.comparison.scores import require_count, require_fraction, score_tables
from rl_lab.types import UsageError

MOST_SEEDS = 10_000  # more are never proposed
FAR = 10.0  # times the critical value: a difference of so many standard errors is always seen


@dataclass(frozen=True)
class Design:
    """A comparison of two agents with a fixed number of seeds."""

    alpha: float = 0.05
    """The probability of calling equal agents different."""
    power: float = 0.8
    """The probability of calling agents different that are."""
    paired: bool = True
    """Whether run i of both agents is a pair; otherwise all runs are shuffled."""
    tasks: int = 1
    """Over how many tasks scores are averaged."""
    comparisons: int = 1
    """How many pairs of agents are compared; each is tested at alpha / comparisons, Holm's first step."""

    def __post_init__(self) -> None:
        """Raise UsageError for what is out of range."""
        require_fraction("alpha", self.alpha)
        require_fraction("power", self.power)
        require_count("tasks", self.tasks)
        require_count("comparisons", self.comparisons)
        if self.power <= self.level:
            raise UsageError(
                f"power must be greater than alpha / comparisons {self.level:g}, got {self.power}"
            )

    @property
    def level(self) -> float:
        """At which each pair is tested."""
        return self.alpha / self.comparisons

    def power_of(self, difference: float, spread: float, seeds: int) -> float:
        """Return the probability of seeing a difference of means, with its sign.

        Args:
            spread: the standard deviation of the difference between a run of one agent and a run of the other, averaged
                over tasks; see `spread_of`.
            seeds: of each agent.
        """
        if not self.can_reject(seeds):
            return 0.0
        if spread == 0.0:
            return float(difference != 0.0)
        from scipy import special  # quicker to load than scipy.stats, which has the same

        freedom = self.tasks * (seeds - 1) * (1 if self.paired else 2)
        shift = abs(difference) / spread * math.sqrt(seeds)
        critical = -special.stdtrit(freedom, self.level / 2.0)
        if shift > FAR * critical:  # where scipy gives nan, too
            return 1.0
        return float(special.nctdtr(freedom, -shift, -critical))

    def can_reject(self, seeds: int) -> bool:
        """Return whether a permutation test of so many seeds of each agent has small enough p-values at all."""
        return seeds > 1 and 2 / arrangements(seeds, seeds, self.tasks, self.paired) <= self.level

    def detectable(self, spread: float, seeds: int) -> float:
        """Return the smallest difference that is seen with the probability `power`; infinity if none is."""
        if not self.can_reject(seeds):
            return math.inf
        if spread == 0.0:
            return 0.0
        low, high = 0.0, spread
        while self.power_of(high, spread, seeds) < self.power:
            low, high = high, 2.0 * high
        for _ in range(60):  # bisection, to the last bit or so
            middle = (low + high) / 2.0
            low, high = (
                (low, middle) if self.power_of(middle, spread, seeds) >= self.power else (middle, high)
            )
        return high

    def seeds_needed(self, difference: float, spread: float) -> int | None:
        """Return the smallest number of seeds that sees a difference; None if it is more than 10,000."""
        if self.power_of(difference, spread, MOST_SEEDS) < self.power:
            return None
        low, high = 1, MOST_SEEDS  # low sees too little
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if self.power_of(difference, spread, middle) >= self.power else (middle, high)
            )
        return high


@dataclass(frozen=True)
class PowerNote:
    """What a comparison could see, and how many seeds would do."""

    design: Design
    seeds: int
    """Of each agent; the smaller number."""
    spread: float
    """The standard deviation of the difference between runs, as estimated from the scores."""
    detectable: float
    """The smallest difference that is seen with the design's power; infinity if none is."""
    difference: float
    """The difference that is to be seen."""
    needed: int | None
    """Seeds of each agent that would see it; None if more than 10,000 would."""

    def __str__(self) -> str:
        """Return the note in one line."""
        return f"with {self.seeds} seeds {self._seen()}{self._would_do()}"

    def _seen(self) -> str:
        if math.isinf(self.detectable):
            ways = arrangements(self.seeds, self.seeds, self.design.tasks, self.design.paired)
            smallest = f"the smallest possible p-value is {min(1.0, 2 / ways):.2g}"
            return f"no difference can be seen: {smallest}, and {self.design.level:.2g} is needed"
        if self.spread == 0.0 and self.difference == 0.0:
            return "nothing is known of the differences that could be seen: no run scored other than the one beside it"
        if self.spread == 0.0:
            return "any difference can be seen, since all runs differ by the same amount"
        conditions = f"(power {self.design.power:g}, alpha {self.design.level:.2g})"
        return f"a difference below {self.detectable:.3g} can't be seen {conditions}"

    def _would_do(self) -> str:
        if self.difference == 0.0:
            return ""
        seeds = f"{self.needed:,} seeds" if self.needed else f"more than {MOST_SEEDS:,} seeds"
        return f"; for one of {self.difference:.3g}, {seeds} would do"


def power_note(
    x: ArrayLike,
    y: ArrayLike,
    difference: float | None = None,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    paired: bool = True,
    comparisons: int = 1,
) -> PowerNote:
    """Return what a comparison could see, judged by the spread of its own scores.

    Args:
        x: scores, [runs] or [runs, tasks].
        y: the same.
        difference: which one is to be seen; by default the one that was observed. That says how many seeds would do if
            it were the true one, and is of no use as evidence that there is one.
        comparisons: how many pairs of agents are compared.

    Raises:
        UsageError: scores are unusable, fewer than 2 runs, or a number is out of range.
    """
    of_x, of_y = score_tables(x, y, paired)
    design = Design(alpha, power, paired, of_x.shape[1], comparisons)
    spread, seeds = spread_of(x, y, paired), min(len(of_x), len(of_y))
    sought = abs(float(of_x.mean() - of_y.mean())) if difference is None else abs(difference)
    if not math.isfinite(sought):
        raise UsageError(f"difference must be a finite number, got {difference}")
    needed = design.seeds_needed(sought, spread)
    return PowerNote(design, seeds, spread, design.detectable(spread, seeds), sought, needed)


def spread_of(x: ArrayLike, y: ArrayLike, paired: bool = True) -> float:
    """Return the standard deviation of the difference between a run of x and a run of y, averaged over tasks.

    Divided by the square root of the number of seeds, it is the standard error of the difference of means.

    Raises:
        UsageError: scores are unusable, or there are fewer than 2 runs of an agent.
    """
    of_x, of_y = score_tables(x, y, paired)
    if min(len(of_x), len(of_y)) < 2:
        raise UsageError(f"the spread of scores needs at least 2 runs, got {min(len(of_x), len(of_y))}")
    tasks = of_x.shape[1]
    variances = (of_x - of_y).var(axis=0, ddof=1) if paired else of_x.var(0, ddof=1) + of_y.var(0, ddof=1)
    return float(np.sqrt(variances.sum()) / tasks)

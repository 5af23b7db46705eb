"""Comparing until it is decided: a group-sequential permutation test, which adds runs in groups.

Mathieu, Della Vecchia, Shilova, Centa, Kohler, Maillard, Preux: "AdaStop: adaptive statistical testing for sound
comparisons of Deep RL agents", TMLR 2024, https://arxiv.org/abs/2306.10882.

After each group of runs the test looks at all scores so far, and holds the error rate over all looks together. Scores
are exchanged only within a group, and a permutation that would have been called a difference at an earlier look is
spent. By look k of K, at most the fraction alpha k / K of the permutations is.

Where we deviate: AdaStop compares the largest of all pairs' statistics with that of the permutations. Here each pair
has its own test, and several pairs are combined by a closed test, Holm's method for sequential tests: it holds the rate
of any wrong call with few runs, too, and whichever agents are equal. No pair is called equal before the last look
(AdaStop's beta is 0). The package adastop 0.1.3 compares the absolute difference with permuted differences that keep
their sign, so that it calls two equal agents different with probability 2 alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.evaluation.comparison.differences import TIE, agent_pairs, arrangements, shuffled_differences
from rl_lab.evaluation.comparison.scores import require_count, require_fraction, score_table
from rl_lab.seeding import seed_of
from rl_lab.types import Array, UsageError

Outcome = Literal["greater", "less", "undecided", "no difference found"]


class Verdict(NamedTuple):
    """What is known about a pair of agents."""

    x: str
    y: str
    outcome: Outcome
    """Of x compared with y. "no difference found" comes after the last group, and doesn't say that they are equal."""
    groups: int
    """After how many groups it was decided; how many were seen if it wasn't."""
    level: float
    """At which the pair is tested: alpha, divided by how many pairs still count beside it (see `closed_test`)."""
    at: int
    """After how many groups the two figures below were taken: those at which the boundary was exceeded, or the last."""
    difference: float
    """Mean score of x less that of y."""
    boundary: float
    """What the absolute difference has to exceed for the pair to be called different."""


@dataclass(frozen=True)
class Decision:
    """What is known about all pairs after a group."""

    verdicts: tuple[Verdict, ...]

    @property
    def decided(self) -> bool:
        """Whether no more runs are needed."""
        return not self.running

    @property
    def running(self) -> tuple[str, ...]:
        """The agents that need another group of runs, since a pair of theirs is undecided."""
        open_pairs = [(v.x, v.y) for v in self.verdicts if v.outcome == "undecided"]
        return tuple(dict.fromkeys(agent for pair in open_pairs for agent in pair))


@dataclass(frozen=True)
class SequentialTest:
    """A plan of looks, fixed before the first run. A decision is a function of it and of the scores alone."""

    alpha: float = 0.05
    """The probability of calling any pair of equal agents different, over all looks."""
    groups: int = 8
    """How many groups there are at most."""
    group_size: int = 5
    """Runs of each agent in a group."""
    paired: bool = False
    """Whether run i of all agents shares a seed and only these are exchanged. Otherwise, as in AdaStop, all runs of two
    agents within a group are shuffled, which has more arrangements and so finds more where groups are small."""
    pairs: tuple[tuple[str, str], ...] | None = None
    """Which agents are compared; by default all pairs."""
    permutations: int = 9999
    """How many are drawn."""
    seed: int = 0
    """Of the permutations."""

    def __post_init__(self) -> None:
        """Raise UsageError for a plan that is out of range."""
        require_fraction("alpha", self.alpha)
        for name in ("groups", "group_size", "permutations"):
            require_count(name, getattr(self, name))

    @property
    def max_seeds(self) -> int:
        """How many runs an agent has at most."""
        return self.groups * self.group_size

    def look(self, scores: Mapping[str, ArrayLike]) -> Decision:
        """Decide what can be decided with the scores so far; earlier looks are taken again, with the same result.

        Args:
            scores: of each agent, [runs] or [runs, tasks], complete groups in the order they were run. An agent all of
                whose pairs are decided may have fewer.

        Raises:
            UsageError: scores are unusable, a group is incomplete, there are too many, an undecided pair lacks runs, or
                no scores whatever could be called different.
        """
        pairs = agent_pairs(scores, self.pairs)
        tables = {agent: self._table(agent, scores[agent]) for pair in pairs for agent in pair}
        self.require_reachable(len(pairs), min(table.shape[1] for table in tables.values()))
        paths = [self._path(tables[x], tables[y], f"{x}/{y}") for x, y in pairs]
        sizes = range(1, len(paths) + 1)
        crossings = [[first_crossing(path, self.alpha / s, self.groups) for path in paths] for s in sizes]
        decided = self._decide(crossings)
        seen = max(len(table) for table in tables.values()) // self.group_size
        found = enumerate(zip(pairs, paths, decided, strict=True))
        verdicts = []
        for i, (pair, path, group) in found:
            size = decisive_size(_crossed(crossings, group or seen), i)
            verdicts.append(self._verdict(pair, path, group, seen, self.alpha / size))
        return Decision(tuple(verdicts))

    def _table(self, agent: str, scores: ArrayLike) -> Array:
        table = score_table(scores, f"scores of {agent}")
        groups, rest = divmod(len(table), self.group_size)
        if rest or groups > self.groups:
            raise UsageError(
                f"{agent} has {len(table)} runs: complete groups of {self.group_size} are needed, at most {self.groups}"
            )
        return table

    def require_reachable(self, pairs: int, tasks: int = 1) -> None:
        """Raise UsageError if even the most extreme scores of all groups could not be called different."""
        ways = arrangements(self.group_size, self.group_size, tasks, self.paired) ** self.groups
        smallest = max(2 / ways, 1 / (self.permutations + 1))
        if smallest > self.alpha / pairs:
            raise UsageError(
                f"{self.groups} groups of {self.group_size} and {self.permutations} permutations can't tell agents "
                f"apart: the smallest p-value is {smallest:.2g}, and {self.alpha / pairs:.2g} is needed (alpha / pairs)"
            )

    def _path(self, x: Array, y: Array, name: str) -> Array:
        """Return a pair's statistic after each group that both have, observed (row 0) and permuted, [1 + B, groups]."""
        if x.shape[1] != y.shape[1]:
            raise UsageError(f"{name} have {x.shape[1]} and {y.shape[1]} tasks: all agents need the same")
        columns = []
        for k in range(min(len(x), len(y)) // self.group_size):
            group = slice(k * self.group_size, (k + 1) * self.group_size)
            rng = np.random.default_rng(seed_of(self.seed, name, k))  # the same at every look
            columns.append(shuffled_differences(x[group], y[group], self.permutations, rng, self.paired))
        return np.cumsum(np.stack(columns, axis=1), axis=1)

    def _decide(self, crossings: Crossings) -> list[int | None]:
        """Return after how many groups each pair is called different; None where it isn't."""
        decided: list[int | None] = [None] * len(crossings)
        for k in range(1, self.groups + 1):
            different = closed_test(_crossed(crossings, k))
            decided = [k if d and at is None else at for d, at in zip(different, decided, strict=True)]
        return decided

    def _verdict(
        self, pair: tuple[str, str], path: Array, group: int | None, seen: int, level: float
    ) -> Verdict:
        if group is None and path.shape[1] < seen:
            raise UsageError(
                f"{' and '.join(pair)} are undecided and need {seen * self.group_size} runs each, as others have"
            )
        crossing, boundaries = walk(path, level, self.groups)
        at = path.shape[1] if group is None or crossing is None else crossing
        outcome: Outcome = "no difference found" if seen == self.groups else "undecided"
        if group is not None:
            outcome = "greater" if path[0, at - 1] > 0 else "less"
        difference, boundary = path[0, at - 1] / at, boundaries[at - 1] / at  # of sums over groups, of means
        boundary = float(f"{boundary:.10g}")  # of paths that are equal up to rounding, it is any one's
        return Verdict(*pair, outcome, group or seen, level, at, float(difference), boundary)


Crossings = Sequence[Sequence[int | None]]
"""After how many groups each pair's path crosses at the levels alpha, alpha / 2, ... alpha / M, [M, M]."""


def _crossed(crossings: Crossings, groups: int) -> list[list[bool]]:
    """Return which of them have crossed by a group, [M, M]."""
    return [[at is not None and at <= groups for at in row] for row in crossings]


def closed_test(crossed: Sequence[Sequence[bool]]) -> list[bool]:
    """Return which of M pairs are called different, such that any wrong call has at most the probability alpha.

    A pair is called different if every set of pairs that holds it is, and a set of s pairs is if one of them crosses at
    the level alpha / s. So a set of s pairs with this one fails only if neither this one nor s - 1 others cross.

    Args:
        crossed: whether each pair crosses at the levels alpha, alpha / 2, ... alpha / M, [M, M].
    """
    rows = list(enumerate(crossed, start=1))
    return [all(row[i] or list(row).count(False) < s for s, row in rows) for i in range(len(rows))]


def decisive_size(crossed: Sequence[Sequence[bool]], pair: int) -> int:
    """Return the size s of the largest set of pairs in which no other crosses, so that this one must at alpha / s.

    Args:
        crossed: as for `closed_test`.
    """
    alone = [s for s, row in enumerate(crossed, start=1) if list(row).count(False) - (not row[pair]) >= s - 1]
    return max(alone)  # a set of this pair alone is always there


class Walk(NamedTuple):
    """How a pair's path runs along its boundary."""

    crossing: int | None
    """After how many groups the observed path exceeds the boundary; None if it doesn't yet."""
    boundaries: list[float]
    """What the absolute statistic has to exceed after each group, as far as the walk went."""


def first_crossing(paths: Array, level: float, groups: int) -> int | None:
    """Return after how many groups the observed path is among the most extreme ones; None if it isn't yet.

    By group k, at most the fraction level * k / groups of all paths is, the observed one included. Thus, where all
    paths are equally probable, the observed one ever is with at most that probability.

    Args:
        paths: cumulative differences, the observed one first, [1 + B, K].
        groups: how many groups there may be in the end.
    """
    return walk(paths, level, groups).crossing


def walk(paths: Array, level: float, groups: int) -> Walk:
    """Follow the observed path along its boundary until it exceeds it; see `first_crossing`."""
    sizes = np.abs(paths)
    extremes = np.round(sizes / (sizes.max() or 1.0) / TIE) * TIE  # equal up to rounding is equal
    alive, spent = np.ones(len(paths), dtype=bool), 0
    boundaries: list[float] = []
    for k in range(paths.shape[1]):
        allowed = int(level * (k + 1) / groups * len(paths) + TIE) - spent
        left = np.flatnonzero(alive)
        if allowed >= len(left):
            return Walk(k + 1, [*boundaries, 0.0])
        place = len(left) - 1 - allowed
        first = left[np.argpartition(extremes[left, k], place)[place]]
        boundaries.append(float(sizes[first, k]))
        crossed = alive & (extremes[:, k] > extremes[first, k])  # at most `allowed` paths
        if crossed[0]:
            return Walk(k + 1, boundaries)
        spent += int(crossed.sum())
        alive &= ~crossed
    return Walk(None, boundaries)

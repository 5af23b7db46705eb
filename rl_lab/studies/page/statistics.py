"""The statistics that a page shows of a group of scores: pairs of agents, aggregates, and profiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from rl_lab.evaluation.comparison.aggregates import AGGREGATES, mean, optimality_gap
from rl_lab.evaluation.comparison.differences import TIE, holm, permutation_test
from rl_lab.evaluation.comparison.improvement import improvement_interval
from rl_lab.evaluation.comparison.intervals import Band, aggregate_interval
from rl_lab.evaluation.comparison.power import Design, power_note
from rl_lab.evaluation.comparison.profiles import performance_profile
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.scores import Group
from rl_lab.types import Array

ALPHA = 0.05  # the probability of calling any two equal agents different
THRESHOLDS = 101  # of a performance profile


@dataclass(frozen=True)
class Pair:
    """Two agents, compared: x has the higher mean score."""

    x: str
    y: str
    seeds: int
    """How many seeds both have: the difference and the test are over these."""
    means: tuple[float, float]
    difference: Estimate
    """Mean of x less mean of y, with its interval over pairs of runs."""
    p_value: float
    adjusted_p_value: float
    """Corrected for the number of pairs (Holm)."""
    improvement: Estimate
    """The probability that a run of x beats a run of y, over all runs."""
    paired: bool
    """Whether the test exchanges the runs of the same seed only; see `is_paired`."""
    power: str | None
    """What so few seeds could see, and how many would do; None with fewer than 2 seeds."""

    @property
    def different(self) -> bool:
        """Whether the test calls them different."""
        return self.adjusted_p_value <= ALPHA


def pairs_of(group: Group) -> list[Pair]:
    """Return all pairs of agents that share a seed, with p-values corrected for the number of pairs."""
    couples = [pair for pair in combinations(group.agents, 2) if group.pair(*pair)[0]]
    found = [_pair(group, *couple, comparisons=len(couples)) for couple in couples]
    adjusted = holm([pair.p_value for pair in found]).tolist() if found else []
    return [replace(pair, adjusted_p_value=p) for pair, p in zip(found, adjusted, strict=True)]


def _pair(group: Group, x: str, y: str, comparisons: int) -> Pair:
    seeds, of_x, of_y = group.pair(x, y)
    if of_y.mean() > of_x.mean():
        x, y, of_x, of_y = y, x, of_y, of_x
    paired = is_paired(len(seeds), len(group.tasks), comparisons)
    p_value = permutation_test(of_x, of_y, paired=paired)
    enough = len(seeds) > 1
    return Pair(
        x=x,
        y=y,
        seeds=len(seeds),
        means=(float(of_x.mean()), float(of_y.mean())),
        difference=_difference(of_x, of_y),
        p_value=p_value,
        adjusted_p_value=p_value,
        improvement=improvement_interval(group.table(x), group.table(y)),
        paired=paired,
        power=str(power_note(of_x, of_y, alpha=ALPHA, paired=paired, comparisons=comparisons))
        if enough
        else None,
    )


def _difference(x: Array, y: Array) -> Estimate:
    """Return the mean difference of scores [seeds, tasks] and its interval; 0 where means differ by rounding alone."""
    found = aggregate_interval(x - y, mean)
    equal = abs(found.value) <= TIE * max(np.abs(x).max(), np.abs(y).max())
    return found._replace(value=0.0) if equal else found


def is_paired(seeds: int, tasks: int, comparisons: int) -> bool:
    """Say whether runs of the same seed are tested as pairs.

    They are wherever a test of pairs can find anything. With so few seeds that it can't whatever the scores are (5 on
    one environment, say), all runs are shuffled instead, which has more arrangements. The numbers of seeds and of
    agents decide, not the scores.
    """
    designs = {p: Design(ALPHA, paired=p, tasks=tasks, comparisons=comparisons) for p in (True, False)}
    return designs[True].can_reject(seeds) or not designs[False].can_reject(seeds)


def aggregates_of(group: Group) -> dict[str, dict[str, Estimate]]:
    """Return each aggregate of each agent's scores, by aggregate and agent.

    The optimality gap is the distance to the upper end of the scale, in units of the score; without a scale of which
    the end is a reference, it isn't among them.
    """
    found = {}
    for name, aggregate in AGGREGATES.items():
        if name != "optimality_gap":
            found[name] = {agent: aggregate_interval(group.table(agent), aggregate) for agent in group.agents}
        elif (goal := goal_of(group)) is not None:
            found[name] = {
                agent: aggregate_interval(group.table(agent), lambda s: optimality_gap(s, goal))
                for agent in group.agents
            }
    return found


def goal_of(group: Group) -> float | None:
    """Return the score to which the optimality gap is measured: the optimum, or a reference; None without one."""
    if len(group.tasks) > 1:
        return 1.0
    scale = group.scale
    return None if scale is None or scale.source.startswith("from the lowest") else scale.high


def profiles_of(group: Group) -> tuple[Array, dict[str, Band]]:
    """Return thresholds [P], and for each agent the fraction of its runs that score above them."""
    tables = {agent: group.table(agent) for agent in group.agents}
    if not tables:
        return np.empty(0), {}
    low = min(float(table.min()) for table in tables.values())
    high = max(float(table.max()) for table in tables.values())
    margin = 0.03 * (high - low) or 0.5
    thresholds = np.linspace(low - margin, high + margin, THRESHOLDS)
    return thresholds, {agent: performance_profile(table, thresholds) for agent, table in tables.items()}

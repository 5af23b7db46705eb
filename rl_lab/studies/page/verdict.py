"""The verdict on a comparison in one sentence, with its uncertainty, and what has to be said beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rl_lab.evaluation.comparison.tuning_seeds import reuse_warning
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.decisions import Decided, decided_for
from rl_lab.studies.page.formats import counted, interval, listed, number, p_text
from rl_lab.studies.page.scores import Group
from rl_lab.studies.page.statistics import ALPHA, Pair
from rl_lab.studies.results import StudyResults

IN_A_CIRCLE = "No agent is the best: these comparisons are of different seeds, since runs are missing."
FEW = 5  # seeds below which intervals of a single task are known to be too narrow


@dataclass(frozen=True)
class Verdict:
    """What a group of scores says."""

    name: str
    """Of the group."""
    text: str
    """One sentence."""
    decided: bool
    """Whether it names a better agent."""
    notes: tuple[str, ...]
    """A sentence each."""


def verdict_of(
    group: Group, pairs: Sequence[Pair], iqms: Mapping[str, Estimate], decided: Decided | None
) -> Verdict:
    """Return the verdict on a group of scores.

    Args:
        pairs: of all agents with scores.
        iqms: the interquartile mean of each agent that has scores.
        decided: what a sequential test says of the same scores; it takes the place of the test of each pair, whose
            error rate doesn't hold where seeds were added until it was decided.
    """
    if decided is not None and group.env_id and (told := decided_for(decided, group.env_id)):
        return Verdict(group.name, f"On {group.name}, {told.text}.", told.decided, _missing(group))
    if not group.agents:
        return Verdict(group.name, f"On {group.name}, no run has finished with an evaluation.", False, ())
    if not pairs:
        return _alone(group, iqms)
    if decided is not None:
        return _unseen(group) if group.env_id else _untested(group)
    best = _best(pairs, group)
    ahead = [pair for pair in pairs if pair.x == best]
    behind = [pair for pair in pairs if pair.y == best]  # by the seeds that both have: some are missing
    beaten = [pair for pair in ahead if pair.different]
    rest = [pair for pair in (*ahead, *behind) if not pair.different]
    parts = []
    if beaten:
        parts.append(f"{best} is better than {_each(beaten, group)}")
    if open_ := [pair for pair in ahead if not pair.different]:
        parts.append(f"it is not decided whether {best} is better than {_each(open_, group)}")
    for pair in behind:
        whether = "" if pair.different else "it is not decided whether "
        parts.append(f"{whether}{pair.x} is better than {_each([pair], group)}")
    circle = (IN_A_CIRCLE,) if any(pair.different for pair in behind) else ()
    notes = (*_power(rest), *circle, *_missing(group))
    return Verdict(group.name, f"On {group.name}, {'; '.join(parts)}.", not rest and not circle, notes)


def _best(pairs: Sequence[Pair], group: Group) -> str:
    """Return the agent that is ahead of most others on the seeds that both have; of several, that of the highest mean.

    Where runs are missing, the mean of an agent's own runs may come from easier seeds than those of others.
    """
    means = {agent: float(group.table(agent).mean()) for agent in group.agents}
    ahead = Counter(pair.x for pair in pairs)
    compared = {agent for pair in pairs for agent in (pair.x, pair.y)}
    return max(compared, key=lambda agent: (ahead[agent], means[agent], -group.agents.index(agent)))


def _each(pairs: Sequence[Pair], group: Group) -> str:
    """Return those that an agent is ahead of, each with the figures of both."""
    return listed([f"{pair.y} ({_figures(pair, group)})" for pair in pairs])


def _figures(pair: Pair, group: Group) -> str:
    """Return the means, their difference, and the p-value of one pair."""
    what = "mean return" if group.env_id else "mean normalised return"
    d = pair.difference
    sure = f", 95 % interval {number(d.low)} to {number(d.high)}" if d.low == d.low else ""
    adjusted = " corrected for the number of pairs" if pair.adjusted_p_value != pair.p_value else ""
    return (
        f"{what} {number(pair.means[0])} against {number(pair.means[1])}: a difference of {number(d.value)}{sure}; "
        f"{p_text(pair.adjusted_p_value)}{adjusted}, {counted(pair.seeds, 'seed')}"
    )


def _unseen(group: Group) -> Verdict:
    """Return the verdict on an environment before the first look at its scores."""
    text = f"On {group.name}, it is not decided: seeds are added until it is, and there was no look at the scores yet."
    return Verdict(group.name, text, False, _missing(group))


def _untested(group: Group) -> Verdict:
    """Return the verdict on all environments together where single ones were compared until they were decided."""
    means = [f"{agent} {number(float(group.table(agent).mean()))}" for agent in group.agents]
    where = group.name.removesuffix(" together")
    text = (
        f"On {where} together, the mean normalised returns are {listed(means)}; no test of them holds, since seeds "
        "were added until the questions on each environment were decided."
    )
    return Verdict(group.name, text, False, _missing(group))


def _power(pairs: Sequence[Pair]) -> list[str]:
    """Return what so few seeds could have seen, of pairs that aren't decided."""
    few = [pair for pair in pairs if pair.power is None]
    if few:
        return ["One seed says nothing about others: more seeds are needed for any verdict."]
    return [f"{pair.x} against {pair.y}: {pair.power}." for pair in pairs]


def _missing(group: Group) -> tuple[str, ...]:
    """Return which agents lack scores of some seeds, which no number contains."""
    asked = group.asked
    lacking = [f"{a} {len(scores)} of {asked[a]}" for a, scores in group.of.items() if len(scores) < asked[a]]
    return (f"Missing runs are left out; seeds with a score: {', '.join(lacking)}.",) if lacking else ()


def _alone(group: Group, iqms: Mapping[str, Estimate]) -> Verdict:
    """Return the verdict where no two agents have a seed in common."""
    parts = [f"{agent} scores {interval(*iqms[agent])}" for agent in group.agents]
    runs = counted(len(group.of[group.agents[0]]), "seed")
    if len(group.agents) == 1:
        figures = f"interquartile mean and 95 % interval over {runs}"
        text = f"On {group.name}, {parts[0]} ({figures}); nothing is compared with it."
    else:
        text = f"On {group.name}, the agents share no seed with a score: {listed(parts)}, and nothing is decided."
    return Verdict(group.name, text, False, _missing(group))


def few_seeds_note(study: StudyResults) -> str | None:
    """Return what has to be said of intervals with few seeds."""
    if len(study.seeds) >= FEW:
        return None
    return f"With fewer than {FEW} seeds, intervals are still too narrow."


def masks_note(study: StudyResults, env_id: str) -> str | None:
    """Return which agents ignored the action masks of an environment, in a sentence; None if none did."""
    ignored = [
        agent
        for agent in study.agents
        if any((run.summary or {}).get("ignored_masks") for run in study.runs[env_id, agent])
    ]
    return f"{listed(ignored)} ignored the action masks, and may have acted illegally." if ignored else None


def tuning_notes(study: StudyResults) -> list[str]:
    """Return a line for each agent whose preset was chosen on seeds that the study uses again.

    study.json names them in `chosen_on`: [{"agent": name, "preset": name, "seeds": [...]}, ...].
    """
    chosen: Any = study.info.get("chosen_on")
    notes = []
    for given in chosen if isinstance(chosen, list) else []:
        if isinstance(given, dict) and isinstance(given.get("seeds"), list):
            name = f"{given.get('preset')} of {given.get('agent')}"
            notes.append(reuse_warning(name, given["seeds"], study.seeds))
    return [note for note in notes if note is not None]


def explained(pairs: Sequence[Pair], sequential: bool = False) -> str:
    """Return how verdicts come about.

    Args:
        sequential: seeds were added until it was decided.
    """
    intervals = "Intervals are of the bootstrap, widened for few seeds."
    if sequential:
        test = "a permutation test of the mean returns that looks after each group of seeds"
        return f"An agent is called better where {test} exceeds its boundary. {intervals}"
    kinds = {pair.paired for pair in pairs} or {True}
    test = {
        frozenset([True]): "a paired permutation test of the mean returns of the same seeds",
        frozenset(
            [False]
        ): "a permutation test of the mean returns (unpaired, since so few pairs could never decide)",
    }.get(
        frozenset(kinds),
        "a permutation test of the mean returns (paired where there are enough seeds for it)",
    )
    return (
        f"An agent is called better where {test} has p ≤ {ALPHA:g}, corrected for the number of pairs by Holm's method."
        f" {intervals}"
    )

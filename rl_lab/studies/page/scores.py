"""Scores of a study as the statistics take them: of one environment, or of all of them on one scale.

A score is the mean return of a run's final evaluation. Runs without one are left out here, and named by the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rl_lab.evaluation.comparison.normalisation import Scale
from rl_lab.studies.page.formats import listed
from rl_lab.studies.results import RETURN, StudyResults
from rl_lab.types import Array

Scores = Mapping[int, tuple[float, ...]]  # by seed, one score for each task


@dataclass(frozen=True)
class Group:
    """The scores that are compared with one another."""

    name: str
    """As sentences call it: "FrozenLake-v1", or "all 3 environments"."""
    tasks: tuple[str, ...]
    of: Mapping[str, Scores]
    """By agent; only seeds that have a score on every task."""
    scale: Scale | None = None
    """What 0 and 1 of a normalised score are; None where there is none. Scores of several tasks are on it already."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """How many seeds each agent is to have."""

    @property
    def env_id(self) -> str:
        """The only task, or ""."""
        return self.tasks[0] if len(self.tasks) == 1 else ""

    @property
    def agents(self) -> list[str]:
        """The agents that have any scores."""
        return [agent for agent, scores in self.of.items() if scores]

    def table(self, agent: str) -> Array:
        """Return all scores of an agent, [runs, tasks]."""
        return np.array(list(self.of[agent].values()), dtype=float).reshape(-1, len(self.tasks))

    def pair(self, x: str, y: str) -> tuple[list[int], Array, Array]:
        """Return the seeds that both agents have, and the scores of both there, [seeds, tasks] each."""
        both = sorted(set(self.of[x]) & set(self.of[y]))
        of_x, of_y = (np.array([self.of[agent][seed] for seed in both], dtype=float) for agent in (x, y))
        return both, of_x.reshape(-1, len(self.tasks)), of_y.reshape(-1, len(self.tasks))


def group_of(study: StudyResults, env_id: str, scale: Scale | None) -> Group:
    """Return the scores on one environment, as they are."""
    of = {
        agent: {s: (score,) for s, score in _finals(study, env_id, agent).items()} for agent in study.agents
    }
    asked = {agent: len(study.runs[env_id, agent]) for agent in study.agents}
    return Group(env_id, (env_id,), of, scale, asked)


def group_of_all(study: StudyResults, scales: Mapping[str, Scale | None]) -> Group | None:
    """Return the normalised scores on all environments that have a scale; None if those aren't several."""
    known = {env_id: scale for env_id in study.env_ids if (scale := scales[env_id]) is not None}
    if len(known) < 2:
        return None
    of: dict[str, Scores] = {}
    for agent in study.agents:
        finals = {env_id: _finals(study, env_id, agent) for env_id in known}
        seeds = [s for s in study.seeds if all(s in scores for scores in finals.values())]
        of[agent] = {seed: tuple(float(known[e].normalise(finals[e][seed])) for e in known) for seed in seeds}
    name = f"all {len(known)} environments" if len(known) > 2 else "both environments"
    if len(known) < len(study.env_ids):
        name = f"{listed(list(known))} together"
    asked = {agent: min(len(study.runs[env_id, agent]) for env_id in known) for agent in study.agents}
    return Group(name, tuple(known), of, None, asked)


def _finals(study: StudyResults, env_id: str, agent: str) -> dict[int, float]:
    found = ((run.seed, run.scalar(RETURN)) for run in study.runs[env_id, agent])
    return {seed: score for seed, score in found if score is not None}

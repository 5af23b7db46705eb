"""What is known of runs that a study didn't carry out: their scores, and what was and wasn't recorded about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from rl_lab.studies.results import Points

Kind = Literal["rl_lab", "sb3", "scores", "published"]
Returns = Literal["evaluation", "training", "given"]

# The figures of a run have the names that a summary.json has. These aren't in it:
BUDGET, EPISODES = "total_steps", "eval_episodes"
VERSION = re.compile(r"(-ram)?(NoFrameskip|Deterministic)?-v\d+$")


@dataclass(frozen=True)
class JoinedRun:
    """One run that the study didn't carry out. What isn't known is left out of it."""

    seed: int | None
    figures: Mapping[str, float]
    """By the names of summary.json; `eval_return_mean` is always there."""
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """By the names of figures, pairs of env_steps and value."""
    versions: Mapping[str, str] = field(default_factory=dict)

    def scalar(self, key: str) -> float | None:
        """Return a figure; None if it isn't known."""
        return self.figures.get(key)

    def curve(self, key: str) -> Points:
        """Return env_steps [P] and values [P] of a figure."""
        steps, values = np.array(self.points.get(key, ()), dtype=float).reshape(-1, 2).T
        return steps, values


@dataclass(frozen=True)
class Joined:
    """The runs of one agent on one environment that a study didn't carry out."""

    agent: str
    """The name under which they are shown."""
    env_id: str
    """What they were played on."""
    kind: Kind
    returns: Returns
    """What the returns are: of evaluation episodes, of training episodes, or that isn't known."""
    source: str
    """A path, or an address on the web."""
    runs: tuple[JoinedRun, ...]
    remarks: tuple[str, ...] = ()
    """What else there is to know."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the runs that decide what is played and evaluated, by the names of config.json."""

    def figures(self, key: str) -> list[float]:
        """Return a figure of the runs for which it is known."""
        return [value for run in self.runs if (value := run.scalar(key)) is not None]

    def untested(self, env_id: str) -> str:
        """Return why its scores enter no test against those of a study's runs on `env_id`."""
        if self.kind == "published":
            return "a published figure, without seeds"
        if self.returns == "training":
            return "returns of training episodes"
        if self.env_id != env_id:
            return "another environment"
        return "not run by this study"


def base_name(env_id: str) -> str:
    """Return an environment's name without namespace and version, by which other versions of it are recognised."""
    return VERSION.sub("", env_id.rpartition("/")[2].rpartition(":")[2])


def matching(joined: Iterable[Joined], env_id: str) -> list[Joined]:
    """Return what is shown beside runs on `env_id`: of each agent what was played on it, else on another version.

    Of several other versions it is the last by name.
    """
    found: dict[str, list[Joined]] = {}
    for one in joined:
        if base_name(one.env_id) == base_name(env_id):
            found.setdefault(one.agent, []).append(one)
    return [one for several in found.values() for one in _exact(several, env_id)]


def _exact(several: list[Joined], env_id: str) -> list[Joined]:
    return [one for one in several if one.env_id == env_id] or [max(several, key=lambda one: one.env_id)]

"""Scores that rl-baselines3-zoo publishes of agents trained with Stable-Baselines3, as given facts.

Each is of one run: "not a quantitative benchmark", as their page says. Its figures are in zoo_scores.csv, for the
environments of Gymnasium itself and of ALE.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from rl_lab.studies.foreign.joined import BUDGET, EPISODES, Joined, JoinedRun, matching
from rl_lab.studies.results import RETURN
from rl_lab.types import UsageError

PREFIX = "zoo:"
SOURCE = (
    "https://github.com/DLR-RM/rl-baselines3-zoo/blob/0088472b8cb622732bdbc4aa3d0d0abde86c67ed/benchmark.md"
)
FILE = Path(__file__).with_name("zoo_scores.csv")


def join_published(name: str, algorithm: str, env_ids: tuple[str, ...]) -> list[Joined]:
    """Return what is published of an algorithm on environments, or on other versions of them.

    Raises:
        UsageError: the algorithm is unknown, or nothing is published of it on any of them.
    """
    rows = [row for row in _rows() if row["algorithm"] == algorithm]
    if not rows:
        known = ", ".join(dict.fromkeys(row["algorithm"] for row in _rows()))
        raise UsageError(f"nothing is published of {PREFIX}{algorithm} (allowed: {known})")
    found = [_joined(name, row) for row in rows]
    every = [one for env_id in env_ids for one in matching(found, env_id)]
    matched = [one for i, one in enumerate(every) if one not in every[:i]]
    if not matched:
        raise UsageError(
            f"nothing is published of {PREFIX}{algorithm} on {', '.join(env_ids)}"
            f" (there is: {', '.join(one.env_id for one in found)})"
        )
    return matched


@cache
def _rows() -> tuple[dict[str, str], ...]:
    with FILE.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def _joined(name: str, row: dict[str, str]) -> Joined:
    figures = {
        RETURN: float(row["mean"]),
        EPISODES: int(row["eval_episodes"]),
        BUDGET: int(row["train_steps"]),
        "env_steps": int(row["train_steps"]),
    }
    policy = "stochastic" if "NoFrameskip" in row["env_id"] else "deterministic"
    remarks = ("one run", f"standard deviation over episodes {float(row['std']):g}", f"{policy} policy")
    run = JoinedRun(None, figures)
    return Joined(name, row["env_id"], "published", "evaluation", SOURCE, (run,), remarks)

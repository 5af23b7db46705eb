"""What is shown beside the runs of a study on an environment."""

from __future__ import annotations

from dataclasses import replace

from rl_lab.studies.foreign.joined import Joined, JoinedRun, matching
from rl_lab.studies.foreign.kept import joined_to
from rl_lab.studies.results import EXACT, OPTIMAL, REGRET, StudyResults

OF_THE_MODEL = (REGRET, EXACT, OPTIMAL)  # figures that are exact, for one environment and discount


def joined_beside(study: StudyResults, env_id: str) -> list[Joined]:
    """Return the joined runs that are shown beside those of a study on one environment.

    Their regrets are left out where they are of another environment or discount.

    Raises:
        UsageError: what the study keeps of them is damaged.
        FormatTooNew: a newer version joined them.
    """
    gammas = {run.config["eval_gamma"] for run in study.of_env(env_id) if "eval_gamma" in run.config}
    return [_comparable(one, env_id, gammas) for one in matching(joined_to(study.directory), env_id)]


def _comparable(joined: Joined, env_id: str, gammas: set[float]) -> Joined:
    gamma = joined.settings.get("eval_gamma")
    if joined.env_id == env_id and (not gammas or gammas == {gamma}):
        return joined
    return replace(joined, runs=tuple(_without_model(run) for run in joined.runs))


def _without_model(run: JoinedRun) -> JoinedRun:
    figures = {key: value for key, value in run.figures.items() if key not in OF_THE_MODEL}
    points = {key: pairs for key, pairs in run.points.items() if key not in OF_THE_MODEL}
    return replace(run, figures=figures, points=points)

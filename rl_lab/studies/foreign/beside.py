"""What is shown beside the runs of a study on an environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rl_lab.studies.foreign.joined import Joined, JoinedRun, matching
from rl_lab.studies.foreign.kept import joined_to
from rl_lab.studies.results import EXACT, OPTIMAL, REGRET, RunResults, StudyResults

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


def with_joined(study: StudyResults) -> StudyResults:
    """Return a study's results with the joined runs among them, for figures and tables that show all alike.

    Agents keep their order and joined ones follow; those that have nothing on an environment have no runs there. Runs
    whose seed isn't known have negative ones. Points beyond the study's own budget there are left out. Tests take the
    study itself.
    """
    agents = tuple(dict.fromkeys([*study.agents, *(one.agent for one in joined_to(study.directory))]))
    runs = {
        (env_id, agent): study.runs.get((env_id, agent), ()) for env_id in study.env_ids for agent in agents
    }
    for env_id in study.env_ids:
        for one in joined_beside(study, env_id):
            ordered = enumerate(one.runs, start=1)
            runs[env_id, one.agent] = tuple(
                _as_results(one, env_id, k, run, max(study.budgets(env_id))) for k, run in ordered
            )
    return replace(study, agents=agents, runs=runs)


def _as_results(joined: Joined, env_id: str, number: int, run: JoinedRun, budget: int) -> RunResults:
    seed = -number if run.seed is None else run.seed
    rows: dict[float, dict[str, float]] = {}
    for key, pairs in run.points.items():
        for steps, value in pairs:
            if steps <= budget:
                rows.setdefault(steps, {"env_steps": steps})[key] = value
    ordered = tuple(rows[steps] for steps in sorted(rows))
    summary = dict(run.figures) | ({"versions": dict(run.versions)} if run.versions else {})
    return RunResults(joined.agent, env_id, seed, Path(joined.source), {}, summary, ordered)


def _comparable(joined: Joined, env_id: str, gammas: set[float]) -> Joined:
    gamma = joined.settings.get("eval_gamma")
    if joined.env_id == env_id and (not gammas or gammas == {gamma}):
        return joined
    return replace(joined, runs=tuple(_without_model(run) for run in joined.runs))


def _without_model(run: JoinedRun) -> JoinedRun:
    figures = {key: value for key, value in run.figures.items() if key not in OF_THE_MODEL}
    points = {key: pairs for key, pairs in run.points.items() if key not in OF_THE_MODEL}
    return replace(run, figures=figures, points=points)

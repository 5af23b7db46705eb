"""The scale on which scores of different environments are averaged: exact where the model is known, else measured."""

from __future__ import annotations

from collections.abc import Iterable

from rl_lab.evaluation.comparison.normalisation import Scale, episode_scale, measured_scale
from rl_lab.runs.description import read_description
from rl_lab.studies.results import OPTIMAL, RETURN, RunResults, StudyResults
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError

RANDOM = "random"  # the agent whose scores are those of random play
MOST_WORK = 10_000_000  # states times steps of an episode beyond which the exact scale isn't worth the wait


def scale_of(study: StudyResults, env_id: str) -> Scale | None:
    """Return the scale of evaluation returns on an environment; None if all scores are equal, or there are none.

    Exact from random play to the optimum, where the model is known. Otherwise from the mean score of the random agent,
    if it is compared, to that of the best agent; else from the lowest score of this study to the highest.
    """
    try:
        return _exact(study.of_env(env_id), env_id) or _measured(study, env_id)
    except UsageError:  # the two ends are equal
        return None


def _exact(runs: Iterable[RunResults], env_id: str) -> Scale | None:
    """Return the exact scale; None where the model isn't known any more, or is too large."""
    run = next((run for run in runs if run.scalar(OPTIMAL) is not None), None)
    if run is None:
        return None
    try:
        description = read_description(run.directory)
        learner, _ = configure(description.agent, dict(description.fields) | {"env_id": env_id})
        problem = problem_of(description.config, learner, for_acting=True)
        model, config, limit = problem.model, description.config, problem.spec.max_episode_steps
        longest = (
            config.eval_steps(None) if limit is None else limit
        )  # without one, an evaluation ends after so many
        steps = min(longest, config.eval_max_steps)
        if model is None or model.num_states * steps > MOST_WORK:
            return None
        return episode_scale(model, steps)
    except Exception:  # whatever has become of the environment since: the page is written in any case
        return None


def _measured(study: StudyResults, env_id: str) -> Scale | None:
    scores = {
        agent: [s for run in study.runs[env_id, agent] if (s := run.scalar(RETURN)) is not None]
        for agent in study.agents
    }
    known = {agent: values for agent, values in scores.items() if values}
    best = max(known, key=lambda agent: sum(known[agent]) / len(known[agent]), default=None)
    if best is None:
        return None
    if RANDOM in known and best != RANDOM:
        return measured_scale(known[RANDOM], known[best], f"{best}, the best agent here")
    everything = [score for values in known.values() for score in values]
    return Scale(min(everything), max(everything), "from the lowest to the highest score of this study")

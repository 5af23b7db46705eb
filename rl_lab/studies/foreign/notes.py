"""Says what is and isn't known about joined runs, and how they differ from those of the study that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rl_lab.studies.foreign.joined import BUDGET, EPISODES, Joined
from rl_lab.studies.results import RunResults, StudyResults

WHAT = {
    "rl_lab": "joined run directories",
    "sb3": "joined files of SB3",
    "scores": "joined scores",
    "published": "published by rl-baselines3-zoo",
}
# What decides results; a difference in others is none.
COMPARED_VERSIONS = ("rl_lab", "gymnasium", "numpy", "torch", "stable-baselines3")


def notes_on(joined: Joined, study: StudyResults, env_id: str) -> tuple[str, ...]:
    """Return short texts on joined runs that are shown beside those of a study on one environment.

    What isn't known is named as such; nothing is assumed in its place.
    """
    own = study.of_env(env_id)
    config: Mapping[str, Any] = next((run.config for run in own if run.config), {})
    played_on = [f"played on {joined.env_id}, not {env_id}"] if joined.env_id != env_id else []
    return (
        WHAT[joined.kind],
        *played_on,
        *joined.remarks,
        *_differing_counts(joined, study.budgets(env_id), config),
        *_differing_settings(joined, config),
        *_differing_versions(joined, own),
        *_unknown(joined),
        f"in no test: {joined.untested(env_id)}",
    )


def _differing_counts(joined: Joined, own: set[int], config: Mapping[str, Any]) -> Iterable[str]:
    """Yield how budgets and numbers of evaluation episodes differ from those of the study's own runs there."""
    budgets = sorted(set(joined.figures(BUDGET)))
    if budgets and not own.issuperset(budgets):
        yield f"budget {_span(budgets)} steps instead of {' or '.join(f'{steps:,}' for steps in sorted(own))}"
    episodes, asked = sorted(set(joined.figures(EPISODES))), config.get("eval_episodes")
    if episodes and asked is not None and episodes != [asked]:
        yield f"{_episodes(episodes)} instead of {asked:,}"
    elif episodes and asked is None:
        yield _episodes(episodes)


def _episodes(counts: list[float]) -> str:
    return f"{_span(counts)} evaluation episode{'' if counts == [1] else 's'}"


def _span(values: list[float]) -> str:
    low, high = f"{values[0]:,.0f}", f"{values[-1]:,.0f}"
    return low if low == high else f"{low} to {high}"


def _differing_settings(joined: Joined, config: Mapping[str, Any]) -> Iterable[str]:
    for name, value in joined.settings.items():
        if name not in (BUDGET, EPISODES) and name in config and not _alike(config[name], value):
            yield f"{name} {value} instead of {config[name]}"


def _alike(one: Any, other: Any) -> bool:
    return one == other or (isinstance(one, list | tuple) and list(one) == list(other))


def _differing_versions(joined: Joined, own: Iterable[RunResults]) -> Iterable[str]:
    here: dict[str, set[str]] = {}
    for run in own:
        found = (run.summary or {}).get("versions")
        for name, version in found.items() if isinstance(found, dict) else ():
            here.setdefault(name, set()).add(str(version))
    for name in COMPARED_VERSIONS:
        there = {run.versions[name] for run in joined.runs if name in run.versions}
        if there and name in here and there != here[name]:
            yield f"{name} {', '.join(sorted(there))} instead of {', '.join(sorted(here[name]))}"


def _unknown(joined: Joined) -> Iterable[str]:
    """Return what isn't known of all runs, in one text."""
    known = {
        "seeds": all(run.seed is not None for run in joined.runs),
        "budget": len(joined.figures(BUDGET)) == len(joined.runs),
        "evaluation episodes": joined.returns == "training"
        or len(joined.figures(EPISODES)) == len(joined.runs),
        "whether returns are raw": joined.kind == "rl_lab",
        "versions of packages": all(run.versions for run in joined.runs),
        "training time": len(joined.figures("train_seconds")) == len(joined.runs),
    }
    if unknown := [name for name, is_known in known.items() if not is_known]:
        yield f"not known: {', '.join(unknown)}"

"""Joins run directories of the lab: one, or all below a folder, such as another study's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG, RunDescription, read_description
from rl_lab.studies.foreign.joined import BUDGET, EPISODES, Joined, JoinedRun
from rl_lab.studies.results import EXACT, REGRET, RETURN, RunResults, read_run
from rl_lab.types import UsageError

# What decides the games that are played and how they are counted.
SETTINGS = (
    "env_kwargs", "wrappers", "preprocess", "life_loss_terminates", "eval_gamma", "eval_max_steps", EPISODES, BUDGET,
)  # fmt: skip
FIGURES = (
    RETURN,
    REGRET,
    EXACT,
    "env_steps",
    "gradient_steps",
    "train_seconds",
    "wall_seconds",
    "peak_rss_mb",
)
Found = tuple[RunDescription, RunResults]


def join_runs(name: str, folders: Sequence[Path], source: Path) -> list[Joined]:
    """Return what the finished runs in these folders say, by agent and environment.

    Args:
        folders: run directories.
        source: what was given.

    Raises:
        UsageError: a config.json is damaged, none of the runs has finished with an evaluation, or two runs of an agent
            have the same environment and seed.
        FormatTooNew: a newer version wrote a run.
    """
    found = [_read(folder) for folder in folders]
    finished = [(description, run) for description, run in found if run.scalar(RETURN) is not None]
    if not finished:
        raise UsageError(f"{str(source)!r}: none of its {len(found)} runs has finished with an evaluation")
    agents = dict.fromkeys(description.agent for description, _ in finished)
    return [
        _joined(name if len(agents) == 1 else f"{name}:{agent}", group, found, source)
        for agent in agents
        for group in _by_environment(pair for pair in finished if pair[0].agent == agent)
    ]


def _read(folder: Path) -> Found:
    description = read_description(folder)
    config = description.config
    return description, read_run(folder, description.agent, config.env_id, config.seed)


def _by_environment(pairs: Iterable[Found]) -> list[list[Found]]:
    groups: dict[str, list[Found]] = {}
    for description, run in pairs:
        groups.setdefault(description.config.env_id, []).append((description, run))
    return list(groups.values())


def _joined(name: str, group: list[Found], found: list[Found], source: Path) -> Joined:
    first = group[0][0]
    _require_one_of_each_seed(group)
    of_pair = [r for d, r in found if (d.agent, d.config.env_id) == (first.agent, first.config.env_id)]
    remarks = []
    if (left := len(of_pair) - len(group)) > 0:
        remarks.append(f"{left} of {len(of_pair)} runs without a result left out")
    if any(description.fields != first.fields for description, _ in group):
        remarks.append("hyperparameters differ between its runs")
    settings = _settings(first)
    if any(_settings(description) != settings for description, _ in group):
        differing = [k for k in SETTINGS if any(_settings(d)[k] != settings[k] for d, _ in group)]
        remarks.append(f"{', '.join(differing)} differ between its runs")
    if early := sum(bool((run.summary or {}).get("stopped_early")) for _, run in group):
        remarks.append(f"{early} runs stopped early")
    runs = tuple(_run(description, run) for description, run in group)
    return Joined(
        name,
        first.config.env_id,
        "rl_lab",
        "evaluation",
        str(source.absolute()),
        runs,
        tuple(remarks),
        settings,
    )


def _require_one_of_each_seed(group: list[Found]) -> None:
    seen: dict[int, Path] = {}
    for _, run in group:
        if run.seed in seen:
            raise UsageError(
                f"{str(seen[run.seed])!r} and {str(run.directory)!r} are both {run.agent} on {run.env_id} with seed"
                f" {run.seed} (allowed: one run of each seed; join folders under names of their own)"
            )
        seen[run.seed] = run.directory


def _settings(description: RunDescription) -> dict[str, Any]:
    stored = description.to_json()
    return {name: stored[name] for name in SETTINGS}


def _run(description: RunDescription, run: RunResults) -> JoinedRun:
    summary = run.summary or {}
    figures = {key: value for key in FIGURES if (value := run.scalar(key)) is not None}
    returns = summary.get("eval_returns")
    figures[EPISODES] = len(returns) if isinstance(returns, list) else description.config.eval_episodes
    figures[BUDGET] = description.config.total_steps
    points = {key: _points(run, key) for key in (RETURN, REGRET)}
    versions = summary.get("versions")
    known = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else {}
    return JoinedRun(run.seed, figures, {key: p for key, p in points.items() if p}, known)


def _points(run: RunResults, key: str) -> tuple[tuple[float, float], ...]:
    steps, values = run.curve(key)
    return tuple(zip(steps.tolist(), values.tolist(), strict=True))


def run_folders_of(folders: Iterable[Path]) -> list[Path]:
    """Return those folders that are run directories."""
    return [folder for folder in folders if (folder / CONFIG).is_file()]

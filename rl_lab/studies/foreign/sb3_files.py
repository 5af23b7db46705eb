"""Joins what Stable-Baselines3 leaves behind: monitor.csv of its Monitor, evaluations.npz of its EvalCallback.

Neither holds a seed, a budget or versions. monitor.csv holds the returns of training episodes, which explore;
evaluations.npz holds those of evaluation episodes, but not the environment's id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rl_lab.runs.rows import is_number
from rl_lab.studies.foreign.files import arrays_of, damaged, number_of, rows_of, text_of
from rl_lab.studies.foreign.joined import EPISODES, Joined, JoinedRun, Returns
from rl_lab.studies.results import RETURN
from rl_lab.types import Array, UsageError

EVALUATIONS, MONITOR = "evaluations.npz", "monitor.csv"
LAST_EPISODES = 100  # as SB3 averages them in rollout/ep_rew_mean
MOST_POINTS = 200  # of a curve


class Monitored(NamedTuple):
    """What the monitor.csv of a run say."""

    env_id: str | None
    returns: Array  # [episodes], in the order in which they ended
    env_steps: Array  # [episodes], at their ends
    seconds: float
    cut: bool  # whether the last line of a file was cut off


def join_sb3(name: str, folders: Sequence[Path], source: Path, env_id: str | None) -> list[Joined]:
    """Return what SB3's files in these folders say, each folder a run.

    Where there are evaluations, they count; otherwise the last training episodes do.

    Args:
        folders: those with a monitor.csv or an evaluations.npz.
        source: what was given.
        env_id: the environment, if it was said; it must be that of monitor.csv.

    Raises:
        UsageError: a file is damaged or empty, the environment isn't known, or differs from the one that was said.
    """
    runs: dict[tuple[str, Returns], list[tuple[JoinedRun, bool]]] = {}
    for folder in folders:
        monitored = _monitored(folder)
        evaluated = folder / EVALUATIONS
        returns: Returns = "evaluation" if evaluated.is_file() else "training"
        run = _run(evaluated if evaluated.is_file() else None, monitored)
        key = (_env_id(folder, monitored, env_id), returns)
        runs.setdefault(key, []).append((run, monitored is not None and monitored.cut))
    return [
        _joined(name, played, returns, found, source, both=(played, _other(returns)) in runs)
        for (played, returns), found in runs.items()
    ]


def sb3_folders_of(folders: Sequence[Path]) -> list[Path]:
    """Return those folders that hold SB3's files."""
    return [folder for folder in folders if (folder / EVALUATIONS).is_file() or _monitors(folder)]


def is_monitor(path: Path) -> bool:
    """Return whether a file's name is one that SB3's Monitor gives."""
    return path.name == MONITOR or path.name.endswith(f".{MONITOR}")


def _monitors(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{MONITOR}") if is_monitor(path) and path.is_file())


def _other(returns: Returns) -> Returns:
    return "training" if returns == "evaluation" else "evaluation"


def _joined(
    name: str, env_id: str, returns: Returns, found: list[tuple[JoinedRun, bool]], source: Path, both: bool
) -> Joined:
    if both:
        raise UsageError(
            f"{str(source)!r}: some runs on {env_id} have an {EVALUATIONS} and some don't, so that their scores aren't"
            " of one kind (allowed: join them under names of their own)"
        )
    remarks = []
    if returns == "training":
        remarks.append(
            f"mean of the last {LAST_EPISODES} training episodes, with exploration, as Monitor saw them"
        )
    if cut := sum(is_cut for _, is_cut in found):
        remarks.append(f"the last line of {cut} monitor.csv was cut off and is left out")
    runs = tuple(run for run, _ in found)
    return Joined(name, env_id, "sb3", returns, str(source.absolute()), runs, tuple(remarks))


def _env_id(folder: Path, monitored: Monitored | None, said: str | None) -> str:
    recorded = None if monitored is None else monitored.env_id
    if recorded is not None and said is not None and recorded != said:
        raise UsageError(f"{folder}: {MONITOR} says that it was played on {recorded}, not {said}")
    if (env_id := recorded or said) is None:
        raise UsageError(f"{folder} doesn't say what was played (allowed: NAME@ENV_ID={folder} says it)")
    return env_id


def _run(evaluated: Path | None, monitored: Monitored | None) -> JoinedRun:
    figures = {} if monitored is None else {"wall_seconds": monitored.seconds}
    if evaluated is not None:
        steps, returns = _evaluations(evaluated)
        figures |= {
            RETURN: float(returns[-1].mean()),
            EPISODES: returns.shape[1],
            "env_steps": int(steps[-1]),
        }
        curve = (steps, returns.mean(axis=1))
    else:
        assert monitored is not None
        last = monitored.returns[-LAST_EPISODES:]
        figures |= {RETURN: float(last.mean()), "env_steps": int(monitored.env_steps[-1])}
        curve = _windows(monitored)
    return JoinedRun(None, figures, {RETURN: _thinned(*curve)})


def _evaluations(path: Path) -> tuple[Array, Array]:
    """Return env_steps [E] and returns [E, episodes] of an evaluations.npz."""
    arrays = arrays_of(path, ("timesteps", "results"))
    steps, returns = arrays["timesteps"], arrays["results"]
    if (
        steps.ndim != 1
        or returns.ndim != 2
        or not len(steps)
        or len(steps) != len(returns)
        or not returns.size
    ):
        raise damaged(
            path, f"timesteps {steps.shape} and results {returns.shape} (needed: [E] and [E, episodes])"
        )
    if (steps < 0).any() or (np.diff(steps) < 0).any():
        raise damaged(path, "timesteps aren't in ascending order")
    return steps, returns.astype(float)


def _windows(monitored: Monitored) -> tuple[Array, Array]:
    """Return env_steps [P] and the mean return of the last episodes up to each, at most MOST_POINTS of them."""
    ends = np.unique(np.linspace(1, len(monitored.returns), MOST_POINTS, dtype=int))
    means = [monitored.returns[max(0, end - LAST_EPISODES) : end].mean() for end in ends]
    return monitored.env_steps[ends - 1], np.array(means)


def _thinned(steps: Array, values: Array) -> tuple[tuple[float, float], ...]:
    chosen = np.unique(np.linspace(0, len(steps) - 1, MOST_POINTS, dtype=int))
    return tuple((float(steps[i]), float(values[i])) for i in chosen)


def _monitored(folder: Path) -> Monitored | None:
    """Return what the monitor.csv of a run say, one file for each environment of its vector; None without any.

    Raises:
        UsageError: a file is damaged, holds no episode, or two are of different environments.
    """
    paths = _monitors(folder)
    if not paths:
        return None
    env_ids: set[str] = set()
    rows: list[tuple[float, float, float]] = []  # seconds, return, length
    began: list[float] = []
    cut = False
    for path in paths:
        start, env_id, found, is_cut = _read(path)
        env_ids |= set() if env_id is None else {env_id}
        rows += [(start + t, r, length) for t, r, length in found]
        began.append(start)
        cut = cut or is_cut
    if not rows:
        raise damaged(paths[0], "it holds no episode")
    if len(env_ids) > 1:
        raise UsageError(
            f"{folder}: its {MONITOR} are of {', '.join(sorted(env_ids))} (allowed: one environment)"
        )
    rows.sort(key=lambda row: row[0])
    times, returns, lengths = np.array(rows).T
    return Monitored(
        next(iter(env_ids), None), returns, np.cumsum(lengths), float(times[-1] - min(began)), cut
    )


def _read(path: Path) -> tuple[float, str | None, list[tuple[float, float, float]], bool]:
    """Return when it began, its environment, (seconds, return, length) of its episodes, and whether its end is cut."""
    first, _, rest = text_of(path).partition("\n")
    try:
        head = json.loads(first.removeprefix("#")) if first.startswith("#") else None
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise damaged(path, "its first line isn't that of SB3's Monitor, # and a JSON object")
    start, env_id = head.get("t_start", 0.0), head.get("env_id")
    known = env_id if isinstance(env_id, str) and env_id not in ("", "None") else None
    is_whole = not rest or rest.endswith("\n")
    whole = rest if is_whole else rest[: rest.rfind("\n") + 1]
    rows = [_episode(path, number, row) for number, row in rows_of(path, whole)] if whole.strip() else []
    return start if is_number(start) else 0.0, known, rows, not is_whole


def _episode(path: Path, number: int, row: dict[str, str]) -> tuple[float, float, float]:
    if missing := [name for name in ("r", "l", "t") if name not in row]:
        raise damaged(path, f"row {number} lacks {', '.join(missing)}")
    seconds, score, length = (number_of(path, number, name, row[name]) for name in ("t", "r", "l"))
    if length < 1 or length != int(length):
        raise damaged(path, f"row {number} has l {row['l']!r} (allowed: a whole number of steps)")
    return seconds, score, length

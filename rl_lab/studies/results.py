"""Reads the results of a study from disk, leniently: unfinished and missing runs belong to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.checks import shown
from rl_lab.runs.description import CONFIG
from rl_lab.runs.directory import STUDY, SUMMARY
from rl_lab.runs.rows import METRICS, is_number, parse_row
from rl_lab.storage.files import reason_of
from rl_lab.storage.formats import FORMAT, require_readable
from rl_lab.studies.decision import given_seeds
from rl_lab.types import Array, UsageError

ERROR = "error.txt"  # why a run failed, in its folder

Points = tuple[Array, Array]  # env_steps [P], values [P]
NO_POINTS: Points = (np.empty(0), np.empty(0))

RETURN, REGRET, EXACT, OPTIMAL = "eval_return_mean", "regret", "exact_eval_return", "optimal_return"
WORST = "eval_return_cvar"  # the mean return of the worst episodes
SECONDS = "train_seconds"


@dataclass(frozen=True)
class RunResults:
    """The results of one run, as far as it got."""

    agent: str
    env_id: str
    seed: int
    directory: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any] | None  # None if the run didn't finish
    rows: tuple[Mapping[str, Any], ...]  # the rows of metrics.jsonl that hold an evaluation
    clock: Points = NO_POINTS  # env_steps [P] and the seconds of training that were spent by then [P]

    @property
    def done(self) -> bool:
        """Whether the run finished."""
        return self.summary is not None

    @property
    def cause(self) -> str:
        """Why the run has no result, in one line."""
        error = self.directory / ERROR
        if self.done:
            return "finished without an evaluation"
        if not self.directory.is_dir():
            return "never started"
        if error.is_file():
            lines = error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[0] if lines else "failed without a message"
        return "no summary: still running, or killed"

    @property
    def evaluated_steps(self) -> int:
        """The env_steps of the last evaluation; 0 without one."""
        return int(self.curve(RETURN)[0].max(initial=0))

    @property
    def budget(self) -> int | None:
        """The environment steps that were asked for; None if the run hasn't begun."""
        budget = self.config.get("total_steps")
        return budget if isinstance(budget, int) else None

    def scalar(self, key: str) -> float | None:
        """Return an entry of the summary if it is a finite number, otherwise None."""
        value = (self.summary or {}).get(key)
        return value if is_number(value) else None

    def curve(self, key: str) -> Points:
        """Return env_steps [P] and values [P] of `key` in the run's evaluations.

        The last one stands once: where the budget was rounded up, an evaluation between the budget that was asked for
        and the run's end is left out, since both are of almost the same policy and the curve would jump.
        """
        points = [(row["env_steps"], row[key]) for row in self.rows if is_number(row.get(key))]
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        if not (self.done and self.budget is not None and steps.size):
            return steps, values
        kept = (steps < self.budget) | (steps == steps.max())
        return steps[kept], values[kept]

    def seconds_at(self, steps: Array) -> Array | None:
        """Return the seconds of training at numbers of env_steps [P], interpolated; None where no row told any."""
        known, seconds = self.clock
        if not known.size:
            return None
        return np.interp(
            steps, np.append(0.0, known), np.append(0.0 if known[0] > 0 else seconds[0], seconds)
        )


@dataclass(frozen=True)
class StudyResults:
    """The results of every run of a study, whether or not it finished."""

    directory: Path
    env_ids: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]  # of the agent that has the most
    total_steps: int
    runs: Mapping[tuple[str, str], tuple[RunResults, ...]]  # by (env_id, agent), one per seed
    info: Mapping[str, Any] = field(default_factory=dict)  # study.json

    def of_env(self, env_id: str) -> list[RunResults]:
        """Return all runs on one environment."""
        return [run for agent in self.agents for run in self.runs[env_id, agent]]

    def budgets(self, env_id: str | None = None) -> set[int]:
        """Return the budgets of the runs that have begun, in environment steps; that of the study if none has.

        Args:
            env_id: of runs on this environment alone; None: on all.
        """
        runs = [run for (of, _), runs in self.runs.items() for run in runs if env_id in (None, of)]
        return {run.budget for run in runs if run.budget is not None} or {self.total_steps}


def run_directory(study_dir: Path, env_id: str, agent: str, seed: int) -> Path:
    """Return the directory in which a study keeps a run."""
    return Path(study_dir, "runs", folder_name(env_id), folder_name(agent), f"seed_{seed}")


def folder_name(name: str) -> str:
    """Return the folder name for an environment or an agent."""
    return name.replace("/", "_").replace(":", "_")


def read_study_json(study_dir: str | Path, *, whole: bool = False) -> dict[str, Any] | None:
    """Return what study.json of a folder holds, in the format in which it was written; None if there is none.

    Args:
        whole: it has to tell the fields of all agents, as a study needs that goes on.

    Raises:
        UsageError: it can't be read, or is damaged.
        FormatTooNew: a newer version wrote it.
    """
    file = Path(study_dir) / STUDY
    try:
        info = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{file} can't be read: {reason_of(error)}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(file, " ".join(str(error).split())) from error
    if not isinstance(info, dict):
        raise _damaged(file, f"it holds {shown(info)}")
    number: Any = info.get("format", FORMAT)
    if not isinstance(number, int):
        raise _damaged(file, f"format is {shown(number)}")
    require_readable(number, file)
    for name, is_right in NEEDED.items():
        if name not in info or not is_right(info[name]):
            raise _damaged(file, f"{name} is {shown(info.get(name))}")
    if "fields" in info and not _are_fields(info["fields"]):
        raise _damaged(file, f"fields is {shown(info['fields'])}")
    if whole and (lacking := [agent for agent in info["agents"] if agent not in info.get("fields", {})]):
        raise _damaged(file, f"it lacks the fields of {lacking[0]!r}")
    return info


def _are_fields(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(own, dict) for own in value.values())


def _damaged(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} is damaged: {why} (allowed: the file as it was, or another folder)")


def _are(kind: type, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, kind) for part in value)


NEEDED: dict[str, Callable[[Any], bool]] = {
    "env_ids": partial(_are, str),
    "agents": partial(_are, str),
    "seeds": lambda value: isinstance(value, int) or _are(int, value),
    "total_steps": lambda value: isinstance(value, int),
}


def load_study(study_dir: Path) -> StudyResults:
    """Read a study directory; of runs that are missing or cut short, whatever is there.

    Raises:
        UsageError: the directory holds no study, or a damaged one.
        FormatTooNew: a newer version wrote it.
    """
    if (info := read_study_json(study_dir)) is None:
        raise UsageError(f"{study_dir} is not a study directory: it has no {STUDY}")
    env_ids, agents = (tuple(dict.fromkeys(info[key])) for key in ("env_ids", "agents"))
    asked = info["seeds"]  # a count, or their list
    first = info.get("first_seed", 0)
    seeds = tuple(range(first, first + asked)) if isinstance(asked, int) else tuple(asked)
    cells = [(env_id, agent) for env_id in env_ids for agent in agents]
    given = given_seeds(Path(study_dir))  # until it is decided, agents differ in their number of seeds
    seeds_of = {cell: seeds + tuple(range(first + len(seeds), first + given.get(cell, 0))) for cell in cells}
    runs = {cell: tuple(_load_run(Path(study_dir), *cell, seed) for seed in seeds_of[cell]) for cell in cells}
    seeds = max(seeds_of.values(), key=len)
    return StudyResults(Path(study_dir), env_ids, agents, seeds, info["total_steps"], runs, info)


def _load_run(study_dir: Path, env_id: str, agent: str, seed: int) -> RunResults:
    return read_run(run_directory(study_dir, env_id, agent, seed), agent, env_id, seed)


def read_run(directory: Path, agent: str, env_id: str, seed: int) -> RunResults:
    """Read a run directory, as far as the run got.

    Args:
        agent: what the run is called, as are its environment and its seed.
    """
    rows = _read_rows(directory / METRICS)
    evaluations = tuple(row for row in rows if RETURN in row or REGRET in row)
    config, summary = read_object(directory / CONFIG) or {}, read_object(directory / SUMMARY)
    clock = _clock([*rows, summary or {}])
    return RunResults(agent, env_id, seed, directory, config, summary, evaluations, clock)


def _clock(rows: Iterable[Mapping[str, Any]]) -> Points:
    """Return the env_steps and the train_seconds of the rows that hold both, in ascending order of steps."""
    pairs = ((row.get("env_steps"), row.get(SECONDS)) for row in rows)
    known = {steps: seconds for steps, seconds in pairs if is_number(steps) and is_number(seconds)}
    steps, seconds = np.array(sorted(known.items()), dtype=float).reshape(-1, 2).T
    return steps, np.maximum.accumulate(seconds) if seconds.size else seconds


def read_object(file: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None if there is none, or only a part that a killed run left."""
    value = _parse(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None
    return value if isinstance(value, dict) else None


def _read_rows(file: Path) -> tuple[dict[str, Any], ...]:
    if not file.is_file():
        return ()
    with file.open(encoding="utf-8", errors="replace") as lines:
        rows = [parse_row(line) for line in lines if any(key in line for key in (RETURN, REGRET, SECONDS))]
    return tuple(row for row in rows if row is not None)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None

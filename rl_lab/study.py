"""A study: several agents, environments and seeds, each run in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_lab.checkpoint import write_atomically
from rl_lab.learning import configure, problem_of, require_accepted
from rl_lab.registry import has_preset, preset_fields
from rl_lab.types import UsageError


@dataclass(frozen=True)
class Study:
    """What is compared: every agent on every environment with the same seeds and the same evaluation."""

    env_ids: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: int
    """Seeds 0 .. seeds - 1."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields for all agents."""
    fields_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields of single agents, which go before those for all."""
    preset: str | None = None
    """Preset of every agent that has it."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds must be at least 1, got {self.seeds}")
        for name in self.fields_of:
            if name not in self.agents:
                raise UsageError(f"fields are given for agent {name!r}, which isn't compared")

    def fields_for(self, agent: str) -> dict[str, Any]:
        """Return the fields of one agent: its own before those for all before the preset's."""
        preset = preset_fields(agent, self.preset) if self.preset and has_preset(agent, self.preset) else {}
        return preset | dict(self.fields) | dict(self.fields_of.get(agent, {}))


@dataclass(frozen=True)
class Task:
    """One run of a study."""

    agent: str
    fields: dict[str, Any]  # env_id, seed and run_dir included

    @property
    def folder(self) -> Path:
        """Return the run directory."""
        return Path(self.fields["run_dir"])

    @property
    def name(self) -> str:
        """Return a name for messages."""
        return f"{self.fields['env_id']} {self.agent} seed {self.fields['seed']}"


def tasks_of(study: Study, out: Path) -> list[Task]:
    """Return all runs, checked; agents take turns, so that drift of the machine falls on all alike.

    Raises:
        UsageError: an unknown name, a wrong value, or an agent that can't take an environment.
    """
    tasks = []
    for env_id in study.env_ids:
        for agent in study.agents:
            _check(agent, study.fields_for(agent) | {"env_id": env_id})
        for seed in range(study.seeds):
            tasks += [_task(study, out, env_id, agent, seed) for agent in study.agents]
    return tasks


def _check(agent: str, fields: dict[str, Any]) -> None:
    learner, config = configure(agent, fields)
    require_accepted(learner, problem_of(config, learner))


def _task(study: Study, out: Path, env_id: str, agent: str, seed: int) -> Task:
    folder = out / "runs" / env_id.replace("/", "_") / agent / f"seed_{seed}"
    fields = study.fields_for(agent) | {"env_id": env_id, "seed": seed, "run_dir": str(folder)}
    return Task(agent, {"group": f"{out.name}-{env_id}"} | fields)


def run_study(
    study: Study, out: Path, *, workers: int = 1, tell: Callable[[str], None] = print
) -> dict[str, str]:
    """Run what isn't done yet; return the causes of the runs that failed, by name.

    A run that was killed is taken up again by a second call, which does nothing else.

    Raises:
        UsageError: `out` holds another study.
    """
    tasks = tasks_of(study, out)
    _claim(study, out, tasks)
    open_tasks = [t for t in tasks if not (t.folder / "summary.json").exists()]
    if len(open_tasks) < len(tasks):
        tell(f"{len(tasks) - len(open_tasks)} of {len(tasks)} runs are done already")
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(run_task, task): task for task in open_tasks}
        for count, future in enumerate(as_completed(futures), 1):
            task, cause = futures[future], future.result()
            if cause is not None:
                failures[task.name] = cause
            tell(f"[{count}/{len(open_tasks)}] {task.name}: {cause or _outcome(task)}")
    return failures


def _claim(study: Study, out: Path, tasks: list[Task]) -> None:
    """Write study.json; an `out` that holds another study is refused."""
    described = {
        "env_ids": list(study.env_ids),
        "agents": list(study.agents),
        "seeds": study.seeds,
        "total_steps": max(configure(t.agent, t.fields)[1].total_steps for t in tasks),
        "fields": {agent: study.fields_for(agent) for agent in study.agents},
    }
    path = out / "study.json"
    if path.exists() and json.loads(path.read_bytes()) != json.loads(json.dumps(described)):
        raise UsageError(
            f"out {str(out)!r} already holds another study (allowed: an empty folder, or the same study)"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(described, indent=1).encode())


def run_task(task: Task) -> str | None:
    """Run one task in a process of its own; return None, or in one line why it failed."""
    task.folder.mkdir(parents=True, exist_ok=True)
    error = task.folder / "error.txt"
    error.unlink(missing_ok=True)
    threads = str(task.fields.get("threads", 1))
    env = os.environ | {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
    }
    command = [sys.executable, "-m", "rl_lab.study", json.dumps({"agent": task.agent, "fields": task.fields})]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    (task.folder / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    cause = lines[-1] if lines else f"the process ended with {done.returncode}"
    if done.returncode < 0:
        cause = f"the process was killed by signal {-done.returncode}"
    error.write_text(cause)
    return cause


def _outcome(task: Task) -> str:
    summary = json.loads((task.folder / "summary.json").read_bytes())
    value = summary["eval_return_mean"]
    score = "no evaluation" if value is None else f"return {value:.4g}"
    return f"{score}, {summary['train_seconds']:.1f} s"


def _work(agent: str, fields: dict[str, Any]) -> None:
    """Do one run: go on with one that was killed, start anew where that isn't exact."""
    from rl_lab.learning import learn, resume

    folder = Path(fields["run_dir"])
    if (folder / "config.json").exists():
        if configure(agent, fields)[0].resumes:
            resume(folder)
            return
        for path in _leftovers(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    learn(agent, **fields)


def _leftovers(folder: Path) -> Iterator[Path]:
    return (path for path in list(folder.iterdir()) if path.name != "log.txt")


if __name__ == "__main__":
    work = json.loads(sys.argv[1])
    _work(work["agent"], work["fields"])

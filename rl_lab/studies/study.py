"""Runs a study: several agents on several environments and seeds, each run in its own process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rl_lab.runs.description import CONFIG
from rl_lab.runs.directory import STUDY, of_a_run
from rl_lab.runs.scrubbing import without_secrets
from rl_lab.runs.signals import stop_on_signals
from rl_lab.storage.files import write_atomically
from rl_lab.storage.formats import FORMAT
from rl_lab.storage.places import require_folder
from rl_lab.studies.batches import RunOutcome, batches_of, run_batch
from rl_lab.studies.budgets import with_budgets_of
from rl_lab.studies.decision import Plan
from rl_lab.studies.differing import how_it_differs
from rl_lab.studies.engines.engine import Engine
from rl_lab.studies.extends import extends
from rl_lab.studies.fairness import shared_terms
from rl_lab.studies.fields import (
    PRESET,
    fields_of_run,
    preset_of,
    preset_on,
    require_env_fields,
    require_fields,
    require_presets,
    tell_without_preset,
)
from rl_lab.studies.live import Board, NoBoard
from rl_lab.studies.migrations import migrate_study, present_folder, rename_folders
from rl_lab.studies.readings import as_begun, require_same_readings
from rl_lab.studies.results import folder_name, read_study_json, run_directory
from rl_lab.studies.running import StopFlag, Stopped, Task, horizon_of, learner_of, run_task
from rl_lab.studies.tuning import chosen_on, tuning_warnings
from rl_lab.studies.until import planned, require_same_plan, require_scores, run_until_decided
from rl_lab.training.setup import configs_of
from rl_lab.types import UsageError

_tell = partial(print, flush=True)  # flushed line by line, even into a pipe


@dataclass(frozen=True)
class Study:
    """A comparison: every agent on every environment, with the same seeds and the same evaluation.

    Raises:
        UsageError: `seeds` is below 1, names are missing, repeated or unknown, no agent has the preset, or a field
            is given that the study sets for each run.
    """

    env_ids: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: int
    """How many seeds; they are first_seed, first_seed + 1, ..."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields for all agents."""
    fields_of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields for single agents, by name; they take precedence over `fields`."""
    preset: str | None = None
    """The preset to use for every agent that has it; `{env_id}` in it stands for the environment's id."""
    env_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fields on single environments, by id, as `fields.fields_of_run` takes them."""
    until_decided: Plan | None = None
    """Adds seeds in groups until it is decided which agents are better; None: the number of seeds is fixed."""
    first_seed: int = 0
    """The lowest seed: another than 0 keeps off the seeds that a preset was chosen on."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"seeds must be at least 1, got {self.seeds}")
        if self.first_seed < 0:
            raise UsageError(f"first_seed must be at least 0, got {self.first_seed}")
        _require_distinct("env_ids", self.env_ids)
        _require_distinct("agents", self.agents)
        if self.until_decided is not None:
            self.until_decided.test_of(self.env_ids, self.agents)
        require_fields(self.fields, self.fields_of, self.env_ids, self.agents)
        require_presets(self.preset, self.env_ids, self.agents)
        require_env_fields(self.env_fields, self.env_ids, self.agents)

    @property
    def all_seeds(self) -> range:
        """The seeds that an agent may get on an environment."""
        most = self.seeds if self.until_decided is None else max(self.seeds, self.until_decided.max_seeds)
        return range(self.first_seed, self.first_seed + most)

    def fields_for(self, agent: str, env_id: str | None = None) -> dict[str, Any]:
        """Return the fields of one agent, on one environment or, with None, those that are the same on all.

        The agent's own take precedence over `fields`, and these over its preset.
        """
        on_env = self.env_fields.get(env_id or "", {})
        return fields_of_run(agent, env_id, self.preset, self.fields, self.own_fields(agent), on_env)

    def own_fields(self, agent: str) -> dict[str, Any]:
        """Return the fields that are given for one agent alone, on all environments."""
        of_learner = self.fields_of.get(learner_of(agent), {})
        return {**of_learner, **horizon_of(agent), **self.fields_of.get(agent, {})}

    def presets(self) -> list[tuple[str, str]]:
        """Return the agents, as the registry knows them, with the presets that they begin from somewhere."""
        found = [(learner_of(a), self._preset(a, env_id)) for env_id in self.env_ids for a in self.agents]
        return [(agent, chosen) for agent, chosen in dict.fromkeys(found) if chosen is not None]

    def _preset(self, agent: str, env_id: str) -> str | None:
        own, on_env = self.own_fields(agent), self.env_fields.get(env_id, {})
        return preset_of(agent, env_id, self.preset, own, on_env)

    def eval_gamma(self, env_id: str | None = None) -> float | None:
        """Return the discount with which all runs on an environment are evaluated; None if no agent has one.

        Args:
            env_id: None for the first.

        Raises:
            UsageError: it differs between agents, so that their regrets wouldn't be comparable.
        """
        gammas = {agent: self._eval_gamma_of(agent, env_id or self.env_ids[0]) for agent in self.agents}
        gammas = {agent: gamma for agent, gamma in gammas.items() if gamma is not None}
        if len(set(gammas.values())) > 1:
            listed = ", ".join(f"{agent} {gamma}" for agent, gamma in gammas.items())
            raise UsageError(
                f"gamma differs between agents: {listed} (allowed: the same, or eval_gamma=... for all)"
            )
        return next(iter(gammas.values()), None)

    def _eval_gamma_of(self, agent: str, env_id: str) -> float | None:
        own, config = configs_of(learner_of(agent), self.fields_for(agent, env_id) | {"env_id": env_id})
        return getattr(own, "gamma", None) if config.eval_gamma is None else config.eval_gamma


def _require_distinct(kind: str, names: tuple[str, ...]) -> None:
    """Check that names are there and that their folders differ.

    Raises:
        UsageError: they aren't, or don't.
    """
    if not names:
        raise UsageError(f"{kind} are missing (allowed: one or more)")
    counts = Counter(map(folder_name, names))
    repeated = [name for name in names if counts[folder_name(name)] > 1]
    if repeated:
        raise UsageError(f"{kind} must be distinct, as names of folders too, got {', '.join(repeated)}")


def tasks_of(study: Study, out: Path, tell: Callable[[str], None] = _tell) -> list[Task]:
    """Return all runs of a study after checking them; tell what is worth knowing of their environments.

    Agents take turns, so that changes in the machine's speed affect all of them alike.

    Raises:
        UsageError: a name is unknown, a value is wrong, or an agent can't learn an environment.
    """
    tasks = []
    for env_id in study.env_ids:
        gamma = study.eval_gamma(env_id)
        own = {agent: study.own_fields(agent) for agent in study.agents}
        tell_without_preset(study.preset, env_id, own, study.env_fields.get(env_id, {}), tell)
        shared = {} if gamma is None else {"eval_gamma": gamma}
        fields = {agent: study.fields_for(agent, env_id) | shared for agent in study.agents}
        begun = {agent for agent in study.agents if _have_begun(study, out, env_id, agent)}
        shared |= shared_terms(env_id, fields, tell, begun=begun)
        for seed in study.all_seeds:
            tasks += [_task(study, shared, out, env_id, agent, seed) for agent in study.agents]
    for line in tuning_warnings(study.presets(), study.all_seeds):
        tell(line)
    return tasks


def _have_begun(study: Study, out: Path, env_id: str, agent: str) -> bool:
    """Return whether all of an agent's runs on an environment have begun."""
    return all((run_directory(out, env_id, agent, seed) / CONFIG).exists() for seed in study.all_seeds)


def _task(study: Study, shared: dict[str, Any], out: Path, env_id: str, agent: str, seed: int) -> Task:
    folder = run_directory(out, env_id, agent, seed)
    fields = (
        study.fields_for(agent, env_id) | shared | {"env_id": env_id, "seed": seed, "run_dir": str(folder)}
    )
    return Task(agent, {"group": f"{out.name}-{env_id}"} | fields)


def run_study(
    study: Study,
    out: Path,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = _tell,
    signals: bool = False,
    board: Board | None = None,
    engine: Engine | None = None,
    batched: bool = False,
    claimed: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Run everything that isn't done yet; return why runs failed, by the names of their tasks.

    A second call continues the runs that were stopped or killed, and adds those of further seeds, agents or
    environments.

    Args:
        out: the study's directory.
        workers: how many runs go on at the same time.
        tell: called with lines about the progress.
        signals: on SIGINT or SIGTERM, let the current runs save and stop; a second signal ends them at once.
        board: shows the state of each run while they go on.
        engine: carries out the runs; by default this machine does, each in a process of its own.
        batched: let the seeds of an agent on an environment learn together, where they can.
        claimed: called before the first run, when nothing is refused any more and `out` holds this study.

    Raises:
        UsageError: `workers` is below 1, nothing can be written in `out`, or it holds a study that this one doesn't
            extend, or whose runs read images otherwise.
        FormatTooNew: a newer version wrote the study that `out` holds.
        EngineFault: the engine couldn't be started.
        Stopped: some runs were stopped before their end.
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    tasks, plan = begin_study(study, out, tell)
    claimed()
    stop = StopFlag()

    def run(tasks: list[Task]) -> dict[str, str]:
        return _run_tasks(tasks, workers, tell, stop, board or NoBoard(), engine, batched)

    with stop_on_signals(stop, enabled=signals):
        if plan is None or study.until_decided is None:
            if done := sum(task.done for task in tasks):
                tell(f"{done} of {len(tasks)} runs are done already")
            return run(tasks)
        return run_until_decided(plan, tasks, out, run, tell)


def begin_study(
    study: Study, out: Path, tell: Callable[[str], None] = _tell
) -> tuple[list[Task], dict[str, Any] | None]:
    """Check a study and write study.json; return all its runs, up to the cap, and the plan of its folder, if any.

    Raises:
        UsageError: nothing can be written in `out`, or it holds a study that this one doesn't extend, or whose runs
            read images otherwise.
        FormatTooNew: a newer version wrote the study that `out` holds.
    """
    require_folder(out, "out")
    tasks = tasks_of(study, out, tell)
    if study.until_decided is not None:
        require_scores(tasks)
    described = _described(study, tasks)
    before = _require_extension(described, out, tasks)
    if before is not None and "until_decided" in before:
        described["until_decided"] = before["until_decided"]
    require_same_readings((t.agent, t.fields, present_folder(t.folder, out, before)) for t in tasks)
    _claim(described, out, before)  # now that nothing is refused any more
    return as_begun(tasks, tell), described.get("until_decided")


def _run_tasks(
    tasks: list[Task],
    workers: int,
    tell: Callable[[str], None],
    stop: StopFlag,
    board: Board,
    engine: Engine | None,
    batched: bool,
) -> dict[str, str]:
    """Run those of the tasks that aren't done; return why runs failed, by the names of their tasks.

    Raises:
        EngineFault: the engine couldn't be started.
        Stopped: some runs were stopped before their end.
    """
    open_tasks = [t for t in tasks if not t.done]
    board.begin({t.name: "waiting" if t in open_tasks else "done" for t in tasks})
    held = engine if engine is not None and open_tasks else nullcontext()
    run = run_task if engine is None else engine.run

    def carry_out(batch: list[Task]) -> list[RunOutcome]:
        reports = [partial(board.report, task.name) for task in batch]
        if len(batch) > 1:
            return run_batch(batch, stop, reports)
        try:
            return [run(batch[0], stop, reports[0])]
        except Stopped as stopped:
            return [stopped]

    batches = batches_of(open_tasks) if batched else [[task] for task in open_tasks]
    with held, ThreadPoolExecutor(workers) as pool:
        try:
            futures = {pool.submit(carry_out, batch): batch for batch in batches}
            return _collect(futures, tell, board)
        except BaseException:  # now, since leaving the block waits for the pool's threads
            stop.stop_requested = True
            raise


def _collect(
    futures: dict[Future[list[RunOutcome]], list[Task]], tell: Callable[[str], None], board: Board
) -> dict[str, str]:
    """Report each run as it ends; return why runs failed, by name.

    Raises:
        Stopped: some runs were stopped before their end.
    """
    failures: dict[str, str] = {}
    count = stopped = 0
    total = sum(map(len, futures.values()))
    for future in as_completed(futures):
        for task, outcome in zip(futures[future], future.result(), strict=True):
            count += 1
            if isinstance(outcome, Stopped):
                stopped += 1
                board.report(task.name, {"state": "stopped"})
                continue
            state = "done" if outcome is None else "failed"
            board.report(task.name, {"state": state, "seconds_left": None})
            if outcome is not None:
                failures[task.name] = outcome
            tell(f"[{count}/{total}] {task.name}: {outcome or task.told()}")
    if stopped:
        raise Stopped(f"stopped with {stopped} of {total} runs to go")
    return failures


def _described(study: Study, tasks: list[Task]) -> dict[str, Any]:
    """Return the contents of study.json, as they will be read back."""
    described = {
        "format": FORMAT,
        "env_ids": list(study.env_ids),
        "agents": list(study.agents),
        "seeds": study.seeds,
        "total_steps": max(configs_of(t.learner, t.fields)[1].total_steps for t in tasks),
        "fields": {agent: without_secrets(study.fields_for(agent)) for agent in study.agents},
        "eval_gamma": tasks[0].fields.get("eval_gamma"),  # all have the same
        **_fields_by_env(study),
        **({"first_seed": study.first_seed} if study.first_seed else {}),
        **({"chosen_on": chosen} if (chosen := chosen_on(study.presets())) else {}),
    }
    if study.until_decided is not None:
        described["until_decided"] = planned(study.until_decided, study.env_ids, study.agents)
    return json.loads(json.dumps(described))  # as it will be read back


def _fields_by_env(study: Study) -> dict[str, Any]:
    """Return what study.json tells beside `fields` where they depend on the environment; {} if they don't."""
    presets = (study.preset, *(fields.get(PRESET) for fields in study.fields_of.values()))
    if not study.env_fields and all(preset_on(None, preset) == preset for preset in presets):
        return {}
    told = {e: {a: without_secrets(study.fields_for(a, e)) for a in study.agents} for e in study.env_ids}
    return {"env_fields": told}


def _require_extension(described: dict[str, Any], out: Path, tasks: list[Task]) -> dict[str, Any] | None:
    """Check that a study extends the one that `out` holds; return the latter's study.json, or None if there is none.

    Raises:
        UsageError: it doesn't, or is damaged; or `out` holds a run instead.
        FormatTooNew: a newer version wrote the study that it holds.
    """
    path, before = out / STUDY, read_study_json(out, whole=True)
    if before is None and (found := of_a_run(out)) is not None:
        raise UsageError(f"out {str(out)!r} already holds a run ({found}; allowed: an empty folder)")
    if before is not None and "until_decided" in described:
        described["seeds"] = max(described["seeds"], before["seeds"])  # what is there stays
    if before is not None and "until_decided" in before:
        asked = described.get("until_decided", {name: described[name] for name in ("env_ids", "agents")})
        require_same_plan(asked, before["until_decided"], out)
    now = None if before is None else with_budgets_of(described, migrate_study(before, path), tasks, out)
    if now is not None and not extends(described, now):
        raise UsageError(
            f"out {str(out)!r} already holds another study ({how_it_differs(described, now)}"
            "allowed: an empty folder, the same study, or one with more seeds, agents or environments, or more steps"
            " where no schedule depends on the budget)"
        )
    return before


def _claim(described: dict[str, Any], out: Path, before: dict[str, Any] | None) -> None:
    """Write study.json, after the folders that an older one names got the names of today."""
    if before is not None:
        rename_folders(out, before)  # before study.json is written: after a kill it is done again
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / STUDY, json.dumps(described, indent=1).encode())

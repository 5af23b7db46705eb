"""Compares agents: runs a study and writes its page, in one call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rl_lab.checks import count, plain_value, shown
from rl_lab.runs.watched import is_watched
from rl_lab.storage.places import require_folder
from rl_lab.studies.batches import FIELD, batched_fields, why_not_batched
from rl_lab.studies.decision import Plan, decision_of
from rl_lab.studies.diagnosing import diagnose_runs
from rl_lab.studies.engines.choice import make_engine
from rl_lab.studies.foreign.join import read_joins
from rl_lab.studies.foreign.kept import keep, require_free_names, tell_changes
from rl_lab.studies.horizons import keep_horizons
from rl_lab.studies.live import Board, NoBoard, make_board
from rl_lab.studies.page.curves import STEPS, curve_panel
from rl_lab.studies.page.static import inline_svg
from rl_lab.studies.page.tables import NUMBERS
from rl_lab.studies.publishing import publish
from rl_lab.studies.report import TABLES, write_report
from rl_lab.studies.results import RETURN, StudyResults, load_study
from rl_lab.studies.study import Study, run_study
from rl_lab.studies.study_file import read_study_file, seeds_of
from rl_lab.studies.table import html_of, table_of
from rl_lab.types import UsageError

MOST_NAMED = 4  # rows of the table in a repr
_print = partial(print, flush=True)  # flushed line by line, even into a pipe


@dataclass(frozen=True, repr=False)
class Comparison:
    """What a comparison leaves behind. A notebook shows it as a table with learning curves."""

    page: Path
    """The page, with everything it shows inside it."""
    failures: Mapping[str, str]
    """Why runs failed (one line each), by names like "FrozenLake-v1 q-learning seed 1"; empty if none did."""

    @property
    def decision(self) -> dict[str, Any] | None:
        """What was decided, and how surely; None if the number of seeds was fixed.

        `rl_lab.studies.decision.decision_of` says what is in it.
        """
        return decision_of(self.page.parent)

    @property
    def verdicts(self) -> list[str]:
        """What the page says first: which agent is better, by how much, how sure; one on each environment."""
        told = json.loads((self.page.parent / TABLES / NUMBERS).read_bytes())
        return [verdict["text"] for verdict in told["study"]["verdicts"]]

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row of plain numbers for each environment and agent, read from the study's folder.

        `rl_lab.studies.table.table_of` says what is in it.
        """
        return table_of(load_study(self.page.parent))

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} runs failed" if self.failures else ""
        parts = [
            f"{row['agent']} on {row['env_id']}"
            + (" without a result" if row["return_iqm"] is None else f" {row['return_iqm']:.6g}")
            for row in self.table[:MOST_NAMED]
        ]
        more = len(self.table) - len(parts)
        parts += [f"and {more} more"] * (more > 0)
        return f"Comparison({', '.join(parts)}{failed}, {str(self.page)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table, the learning curves, why runs failed, and a link to the page."""
        study = load_study(self.page.parent)
        curves = [_curves(study, env_id, f"env{i}") for i, env_id in enumerate(study.env_ids)]
        causes = [f"<p>{escape(f'failed: {name}: {cause}')}</p>" for name, cause in self.failures.items()]
        link = f'<p><a href="{escape(quote(self.page.as_posix()))}">{escape(str(self.page))}</a></p>'
        drawn = [f'<div style="max-width: 34em; background: #fff">{curve}</div>' for curve in curves if curve]
        return "\n".join([html_of(table_of(study)), *drawn, *causes, link])


def compare(
    env_ids: str | Sequence[str] = (),
    agents: str | Sequence[str] = (),
    *,
    study: str | Path | None = None,
    seeds: int | None = None,
    out: str | Path = "runs/comparison",
    workers: int = 1,
    preset: str | None = None,
    agent_fields: Mapping[str, Mapping[str, Any]] | None = None,
    until_decided: bool = False,
    alpha: float | None = None,
    max_seeds: int | None = None,
    group_size: int | None = None,
    keep_horizon: bool = False,
    progress: bool | None = None,
    signals: bool = False,
    engine: str = "local",
    join: Sequence[str] = (),
    first_seed: int | None = None,
    batched: bool = False,
    diagnose: bool = False,
    **fields: Any,
) -> Comparison:
    """Train each agent on every environment with the same seeds and the same evaluation, and write one page.

    A second call with the same folder runs only what is missing; it may add seeds, agents or environments, and more
    steps for agents none of whose schedules depends on the budget.

    Args:
        env_ids: environments; may be left out with `study`, as agents may.
        study: YAML file of a whole study; the other arguments take precedence over what it says.
        seeds: how many seeds; by default 3.
        first_seed: the lowest seed, which the others follow; by default 0. Presets tell on which seeds they
            were chosen: take others.
        out: the study's directory; the page is its index.html.
        workers: how many runs go on at the same time, each in its own process.
        preset: the preset to use for every agent that has one of this name.
        agent_fields: fields for single agents, by name; they take precedence over `fields`.
        until_decided: add seeds in groups, until it is decided for each pair of agents on each environment which one
            is better, or the cap is reached; `Comparison.decision` tells what was found.
        alpha: with `until_decided`, the probability of calling any two equal agents different; by default 0.05.
        max_seeds: with `until_decided`, the cap; by default 40.
        group_size: with `until_decided`, how many seeds are added at a time; by default 5.
        keep_horizon: where the study in `out` gets more steps, compare agents whose schedules depend on the budget
            twice: with the former budget, and as variants NAME@STEPS with the larger one, whose schedules keep the
            former.
        progress: print a line for each run that ends, and show the state of each run meanwhile; None: only in a
            terminal or notebook. Without it, warnings become Python's.
        signals: on SIGINT or SIGTERM, let the current runs save and stop; a second signal ends them at once.
        engine: "local", or "ray" to hand the runs to a Ray cluster: that of RAY_ADDRESS, or one started for them.
        join: runs that the study doesn't carry out, which are shown beside its own: "NAME=PATH" (run directories, a
            folder with SB3's monitor.csv or evaluations.npz, or a CSV file of scores), "NAME@ENV_ID=PATH" where the
            files don't say what was played, or "zoo:AGENT" (scores published by rl-baselines3-zoo).
        batched: let all seeds of an agent learn together in one process: tabular agents in a simulation of the
            environment's model (it sets their field `simulated`), each run as it would be alone; dqn, ppo and a2c as
            one program, each run as it would be alone within rounding.
        diagnose: say of one run of each agent on each environment why its policy falls short, as `rl_lab.diagnose`
            does, and show it on the page.
        fields: those of RunConfig and of the agents' own Configs, for all agents; they take precedence over presets.

    Raises:
        UsageError: a wrong name or value, an agent that can't learn an environment, or an `out` that holds another
            study.
        FormatTooNew: a newer version wrote the study that `out` holds.
        EngineFault: the engine couldn't be started.
        Stopped: some runs were stopped before their end.
    """
    workers = count("workers", workers)
    if not isinstance(diagnose, bool):
        raise UsageError(f"diagnose must be true or false, got {shown(diagnose)}")
    plan = plan_of(until_decided, alpha=alpha, max_seeds=max_seeds, group_size=group_size)
    plain = {name: plain_value(value) for name, value in fields.items()}
    single = {
        agent: {name: plain_value(value) for name, value in given.items()}
        for agent, given in (agent_fields or {}).items()
    }
    played, compared = _names(env_ids), _names(agents)
    first = None if first_seed is None else count("first_seed", first_seed, 0)
    if study is not None:
        file = read_study_file(study).given(plain, single, preset=preset, env_ids=played, agents=compared)
        made = file.study(seeds=seeds, first_seed=first, plan=plan)
    else:
        made = Study(
            played,
            compared,
            seeds=seeds_of(seeds, plan),
            fields=plain,
            fields_of=single,
            preset=preset,
            until_decided=plan,
            first_seed=first or 0,
        )
    made = keep_horizons(made, Path(out)) if keep_horizon else made
    progress = is_watched() if progress is None else progress
    with make_board() if progress else NoBoard() as board:
        made = with_batches(made, board.tell) if batched else made
        return compare_study(
            made,
            out,
            workers=workers,
            tell=board.tell,
            signals=signals,
            board=board,
            engine=engine,
            join=join,
            batched=batched,
            diagnose=diagnose,
        )


def with_batches(study: Study, tell: Callable[[str], None] = _print) -> Study:
    """Return a study whose tabular agents are simulated where all of their runs can be; tell what isn't batched.

    Raises:
        UsageError: nothing can be batched, or the study's fields for all agents say that none is simulated.
    """
    if study.fields.get(FIELD) is False:
        raise UsageError(f"batched and {FIELD} False rule each other out (allowed: one of them)")
    reasons = {
        agent: why_not_batched(
            agent,
            [study.fields_for(agent, env_id) | {"env_id": env_id} for env_id in study.env_ids],
            study.seeds,
        )
        for agent in study.agents
    }
    return replace(study, fields_of=batched_fields(reasons, study.fields_of, tell))


def plan_of(until_decided: bool, **numbers: Any) -> Plan | None:
    """Return the plan of a comparison until it is decided; None if the number of seeds is fixed.

    Args:
        numbers: fields of `Plan`; None: its default.

    Raises:
        UsageError: a number is out of range, or given without `until_decided`.
    """
    given = {name: plain_value(value) for name, value in numbers.items() if value is not None}
    if until_decided:
        return Plan(**given)
    if given:
        name, value = next(iter(given.items()))
        raise UsageError(f"{name} {value} does nothing without until_decided")
    return None


def compare_study(
    study: Study,
    out: str | Path,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = _print,
    signals: bool = False,
    board: Board | None = None,
    engine: str = "local",
    join: Sequence[str] = (),
    batched: bool = False,
    diagnose: bool = False,
) -> Comparison:
    """Run everything of a study that isn't done yet, write its page, and send it to W&B if its runs go there.

    Args and errors are those of `run_study`, but for the engine, which is given by name, and `join` and `diagnose`,
    which `compare` describes.

    Raises:
        UsageError: `batched` with another engine than the local one, too.
    """
    require_folder(out, "out")
    out = Path(out)
    if batched and engine != "local":
        raise UsageError(f"batched can't be combined with engine {engine!r} (allowed: 'local')")
    chosen = make_engine(engine, out, workers)
    joins = read_joins(_names(join), study.env_ids, out)
    require_free_names(study.agents, joins, out)

    def keep_joined() -> None:
        tell_changes(joins, out, tell)
        keep(joins, out)

    failures = run_study(
        study,
        out,
        workers=workers,
        tell=tell,
        signals=signals,
        board=board,
        engine=chosen,
        batched=batched,
        claimed=keep_joined,
    )
    if diagnose:
        diagnose_runs(out, tell)
    page = write_report(out)
    if (cause := publish(out)) is not None:
        tell(f"W&B: the page of {out} was not sent: {cause}")
    found = Comparison(page, failures)
    for row in found.table:
        if row["source"] is not None:
            tell(_line_on(row))
    return found


def _line_on(row: Mapping[str, Any]) -> str:
    """Return one line on joined runs."""
    runs = f"{row['seeds']} run" + "s" * (row["seeds"] != 1)
    return (
        f"joined {row['agent']} on {row['env_id']}: return {row['return_iqm']:.4g} ({runs}); {row['notes']}"
    )


def _curves(study: StudyResults, env_id: str, prefix: str) -> str | None:
    """Return the learning curves on an environment as an SVG element, with a legend; None without any."""
    panel = curve_panel(study, env_id, RETURN, STEPS)
    return (
        None if panel is None else inline_svg([panel], f"evaluation return on {env_id}", study.agents, prefix)
    )


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)

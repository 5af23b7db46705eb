"""Everything that the page of a study says, computed once for the page and for the files beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rl_lab.evaluation.comparison.normalisation import Scale
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.foreign.beside import joined_beside, with_joined
from rl_lab.studies.foreign.notes import notes_on
from rl_lab.studies.page.budgets import budgets_note, overall_note
from rl_lab.studies.page.charts import aggregate_chart, efficiency_chart, improvement_chart, profile_chart
from rl_lab.studies.page.curves import curve_chart
from rl_lab.studies.page.decisions import (
    Decided,
    Section,
    decision_section,
    read_decision,
)
from rl_lab.studies.page.diagnoses import diagnosis_section, read_diagnoses
from rl_lab.studies.page.formats import span
from rl_lab.studies.page.hyperparameters import command_of, hardware_of, hyperparameters, versions_of
from rl_lab.studies.page.panels import Chart
from rl_lab.studies.page.results_table import Column, ResultRow, cut_off, missing, results_of
from rl_lab.studies.page.scales import scale_of
from rl_lab.studies.page.scores import Group, group_of, group_of_all
from rl_lab.studies.page.statistics import Pair, aggregates_of, pairs_of, profiles_of
from rl_lab.studies.page.verdict import Verdict, masks_note, verdict_of
from rl_lab.studies.results import REGRET, RETURN, StudyResults


@dataclass(frozen=True)
class Compared:
    """What the statistics say of a group of scores."""

    group: Group
    pairs: list[Pair]
    aggregates: dict[str, dict[str, Estimate]]
    verdict: Verdict
    charts: list[Chart]
    sequential: bool
    """Seeds were added until it was decided, so that p-values of the pairs don't hold."""


@dataclass(frozen=True)
class Beside:
    """Joined runs, and what is to be known of them."""

    agent: str
    notes: list[str]


@dataclass(frozen=True)
class Environment:
    """What the page says of one environment."""

    env_id: str
    compared: Compared
    charts: list[Chart]
    """Of the curves; those of the statistics are in `compared`."""
    columns: list[Column]
    rows: list[ResultRow]
    missing: list[dict[str, Any]]
    cut_off: str | None
    """Which final evaluations didn't play all of their episodes to the end; None if all did."""
    joined: list[Beside]
    hyperparameters: list[dict[str, Any]]
    diagnoses: Mapping[str, Mapping[str, Any]]
    """Why each agent falls short, as far as it was diagnosed: of its first run that was."""

    @property
    def diagnosis(self) -> Section | None:
        """The section on them; None without any."""
        return diagnosis_section(self.diagnoses)


@dataclass(frozen=True)
class Contents:
    """What the page says."""

    study: StudyResults
    shown: StudyResults
    """The study with the joined runs beside its own: for figures and tables, not for tests."""
    environments: list[Environment]
    overall: Compared | None
    """All environments together; None where there is only one, or no scale."""
    scales: Mapping[str, Scale | None]
    decision: Section | None
    decided: Decided | None
    """What a sequential test decided, as `decision` shows it."""
    command: str | None
    versions: dict[str, list[str]]
    hardware: dict[str, list[str]]

    @property
    def diagnoses(self) -> Iterator[Mapping[str, Any]]:
        """What is known of why agents fall short, of each environment and agent."""
        for env in self.environments:
            for agent, found in env.diagnoses.items():
                yield {"env_id": env.env_id, "agent": agent} | dict(found)

    @property
    def pairs(self) -> list[Pair]:
        """All pairs of agents, of each environment and of all together."""
        overall = self.overall.pairs if self.overall else []
        return [*overall, *(pair for env in self.environments for pair in env.compared.pairs)]

    @property
    def charts(self) -> list[Chart]:
        """All figures, in the order of the page."""
        overall = self.overall.charts if self.overall else []
        return [
            *overall,
            *(chart for env in self.environments for chart in (*env.charts, *env.compared.charts)),
        ]

    @property
    def missing(self) -> int:
        """How many runs have no result."""
        return sum(len(found["seeds"]) for env in self.environments for found in env.missing)

    @property
    def seeds_each(self) -> str:
        """How many seeds agents have: "4 seeds", or "5 to 20 seeds" where they differ."""
        return span([len(runs) for runs in self.study.runs.values()], "seed")

    @property
    def budget(self) -> str:
        """The budgets of runs, from the smallest to the largest."""
        return span(self.study.budgets(), "environment step")

    @property
    def asked(self) -> int:
        """How many runs there are to be."""
        return sum(map(len, self.study.runs.values()))


def contents_of(study: StudyResults) -> Contents:
    """Compute everything that the page of a study says."""
    scales = {env_id: scale_of(study, env_id) for env_id in study.env_ids}
    decision = read_decision(study)
    overall, shown = group_of_all(study, scales), with_joined(study)
    return Contents(
        study=study,
        shown=shown,
        environments=[
            _environment(study, shown, env_id, scales[env_id], decision) for env_id in study.env_ids
        ],
        overall=None if overall is None else _overall(study, overall, scales, decision),
        scales=scales,
        decision=decision_section(decision),
        decided=decision,
        command=command_of(study),
        versions=versions_of(study),
        hardware=hardware_of(study),
    )


def _environment(
    study: StudyResults, shown: StudyResults, env_id: str, scale: Scale | None, decision: Decided | None
) -> Environment:
    runs = study.of_env(env_id)
    columns, rows = results_of({a: shown.runs[env_id, a] for a in shown.agents if shown.runs[env_id, a]})
    curves = [curve_chart(shown, env_id, key) for key in (RETURN, REGRET)]
    beside = [Beside(one.agent, list(notes_on(one, study, env_id))) for one in joined_beside(study, env_id)]
    return Environment(
        env_id=env_id,
        compared=_compared(
            group_of(study, env_id, scale), decision, [budgets_note(study, env_id), masks_note(study, env_id)]
        ),
        charts=[chart for chart in curves if chart is not None],
        columns=columns,
        rows=rows,
        missing=missing(runs),
        cut_off=cut_off(runs),
        joined=beside,
        hyperparameters=hyperparameters(study, env_id),
        diagnoses=read_diagnoses(runs),
    )


def _compared(group: Group, decision: Decided | None, notes: Sequence[str | None]) -> Compared:
    pairs, aggregates = pairs_of(group), aggregates_of(group)
    charts = [
        aggregate_chart(group, aggregates),
        profile_chart(group, *profiles_of(group)),
        improvement_chart(group, pairs),
    ]
    verdict = verdict_of(group, pairs, aggregates["iqm"], decision)
    verdict = replace(verdict, notes=(*(note for note in notes if note), *verdict.notes))
    known = [chart for chart in charts if chart is not None]
    return Compared(group, pairs, aggregates, verdict, known, sequential=decision is not None)


def _overall(
    study: StudyResults, group: Group, scales: Mapping[str, Scale | None], decision: Decided | None
) -> Compared:
    compared = _compared(group, decision, [overall_note(study)])
    efficiency = efficiency_chart(study, group, scales)
    compared.charts[:0] = [] if efficiency is None else [efficiency]
    return compared

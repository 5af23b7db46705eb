"""Everything that the page of a study says, computed once for the page and for the files beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lab.evaluation.comparison.normalisation import Scale
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.charts import aggregate_chart, efficiency_chart, improvement_chart, profile_chart
from rl_lab.studies.page.curves import curve_chart
from rl_lab.studies.page.decisions import (
    Decided,
    Section,
    decision_section,
    diagnosis_section,
    read_decision,
    read_diagnoses,
)
from rl_lab.studies.page.hyperparameters import command_of, hardware_of, hyperparameters, versions_of
from rl_lab.studies.page.panels import Chart
from rl_lab.studies.page.results_table import Column, ResultRow, missing, results_of
from rl_lab.studies.page.scales import scale_of
from rl_lab.studies.page.scores import Group, group_of, group_of_all
from rl_lab.studies.page.statistics import Pair, aggregates_of, pairs_of, profiles_of
from rl_lab.studies.page.verdict import Verdict, verdict_of
from rl_lab.studies.results import REGRET, RETURN, StudyResults


@dataclass(frozen=True)
class Compared:
    """What the statistics say of a group of scores."""

    group: Group
    pairs: list[Pair]
    aggregates: dict[str, dict[str, Estimate]]
    verdict: Verdict
    charts: list[Chart]


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
    hyperparameters: list[dict[str, Any]]
    diagnosis: Section | None


@dataclass(frozen=True)
class Contents:
    """What the page says."""

    study: StudyResults
    environments: list[Environment]
    overall: Compared | None
    """All environments together; None where there is only one, or no scale."""
    scales: Mapping[str, Scale | None]
    decision: Section | None
    command: str | None
    versions: dict[str, list[str]]
    hardware: dict[str, list[str]]

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
    def asked(self) -> int:
        """How many runs there are to be."""
        return sum(map(len, self.study.runs.values()))


def contents_of(study: StudyResults) -> Contents:
    """Compute everything that the page of a study says."""
    scales = {env_id: scale_of(study, env_id) for env_id in study.env_ids}
    decision = read_decision(study)
    overall = group_of_all(study, scales)
    return Contents(
        study=study,
        environments=[_environment(study, env_id, scales[env_id], decision) for env_id in study.env_ids],
        overall=None if overall is None else _overall(study, overall, scales),
        scales=scales,
        decision=decision_section(decision),
        command=command_of(study),
        versions=versions_of(study),
        hardware=hardware_of(study),
    )


def _environment(
    study: StudyResults, env_id: str, scale: Scale | None, decision: Decided | None
) -> Environment:
    runs = study.of_env(env_id)
    columns, rows = results_of({agent: study.runs[env_id, agent] for agent in study.agents})
    curves = [curve_chart(study, env_id, key) for key in (RETURN, REGRET)]
    return Environment(
        env_id=env_id,
        compared=_compared(group_of(study, env_id, scale), decision),
        charts=[chart for chart in curves if chart is not None],
        columns=columns,
        rows=rows,
        missing=missing(runs),
        hyperparameters=hyperparameters(study, env_id),
        diagnosis=diagnosis_section(read_diagnoses(runs)),
    )


def _compared(group: Group, decision: Decided | None) -> Compared:
    pairs, aggregates = pairs_of(group), aggregates_of(group)
    charts = [
        aggregate_chart(group, aggregates),
        profile_chart(group, *profiles_of(group)),
        improvement_chart(group, pairs),
    ]
    verdict = verdict_of(group, pairs, aggregates["iqm"], decision)
    return Compared(group, pairs, aggregates, verdict, [chart for chart in charts if chart is not None])


def _overall(study: StudyResults, group: Group, scales: Mapping[str, Scale | None]) -> Compared:
    compared = _compared(group, None)
    efficiency = efficiency_chart(study, group, scales)
    compared.charts[:0] = [] if efficiency is None else [efficiency]
    return compared

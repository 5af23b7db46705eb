"""The hyperparameters of a study's agents side by side: what differs is marked, and periods are told in transitions.

Agents count in different units: SB3 keeps its periods in vector steps, rollouts are counted in vector steps by all,
and epsilon falls over a share of the budget. So a config may have three things that this module reads, all optional:

- a method `transitions(num_envs, total_steps) -> {field: transitions}`, which says what its periods come to;
- a method `in_lab_terms() -> {field: {field of the lab's agent: value}}`, for fields that go by another name there;
- an attribute `FIXED`, values of fields that it doesn't have, for what the algorithm always does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rl_lab.runs.description import IDLE
from rl_lab.studies.results import RunResults, StudyResults
from rl_lab.training.registry import config_of, make_config
from rl_lab.types import UsageError

Row = dict[str, Any]
SAME, DIFFERS, ALONE = "same", "differs", "alone"
# What isn't shared by the runs of an agent, or decides nothing.
PER_RUN = frozenset({"agent", "env_id", "seed", "fields", "run_dir", "versions", *IDLE}) | {
    "format", "config_sha256", "wandb_source", "extended_from",
}  # fmt: skip
SHARES = {
    "eval_every_steps": 10,
    "log_every_steps": 100,
    "checkpoint_every_steps": 5,
}  # of the budget, by default


def hyperparameters_side_by_side(study: StudyResults, env_id: str | None = None) -> list[Row]:
    """Return a row for each environment and field, from the first run of each agent that has begun.

    Args:
        env_id: one environment; None for all of the study, one after another.

    Returns:
        Rows of
        - `env_id` and `name`, the field's;
        - `values` {agent: value}, of the agents that have the field; lists where a field holds several values;
        - `fixed`, the agents among them for which the value isn't a field but what the algorithm always does;
        - `transitions` {agent: number}, what a period comes to in environment steps; {} if the field is none;
        - `mark`: "differs", "same", or "alone" if a single agent has the field. Periods are compared in transitions.

        Fields that several agents have come first.
    """
    chosen = study.env_ids if env_id is None else (env_id,)
    return [row for one in chosen for row in _rows_of(study, one)]


def _rows_of(study: StudyResults, env_id: str) -> list[Row]:
    columns = {agent: _Column(agent, study.runs[env_id, agent]) for agent in study.agents}
    begun = {agent: column for agent, column in columns.items() if column.values}
    own = dict.fromkeys(name for column in begun.values() for name in column.values)
    rows = [_row(env_id, name, begun) for name in own]
    return sorted(rows, key=lambda row: row["mark"] == ALONE)


def _row(env_id: str, name: str, columns: Mapping[str, _Column]) -> Row:
    """Return the row of one field that at least one of the agents has."""
    having = {
        agent: column for agent, column in columns.items() if name in column.values or name in column.fixed
    }
    values = {agent: column.values.get(name, column.fixed.get(name)) for agent, column in having.items()}
    periods = {
        agent: column.transitions[name] for agent, column in having.items() if name in column.transitions
    }
    compared = periods if len(periods) == len(values) else values
    return {
        "env_id": env_id,
        "name": name,
        "values": values,
        "fixed": [agent for agent, column in having.items() if name not in column.values],
        "transitions": periods,
        "mark": _mark(list(compared.values())),
    }


def _mark(values: Sequence[Any]) -> str:
    if len(values) == 1:
        return ALONE
    return SAME if all(value == values[0] for value in values) else DIFFERS


class _Column:
    """What one agent's runs say: the values of its fields, what is fixed, and its periods in transitions."""

    def __init__(self, agent: str, runs: Iterable[RunResults]):
        stored: Mapping[str, Any] = next((run.config for run in runs if run.config), {})
        fields = stored.get("fields")
        own: dict[str, Any] = fields if isinstance(fields, dict) else {}
        shared = {name: value for name, value in stored.items() if name not in PER_RUN}
        self.values: dict[str, Any] = shared | own
        self.fixed: Mapping[str, Any] = {}
        self.transitions: dict[str, float] = {}
        if stored:
            self.fixed = _fixed(agent)
            config = _config(agent, own)
            self.transitions = _run_periods(shared) | _periods(config, shared)
            for name, terms in _lab_terms(config).items():
                self.values.pop(name, None)  # of an older run it may be missing
                self.values |= terms


def _fixed(agent: str) -> Mapping[str, Any]:
    """Return what an agent's algorithm always does; {} for an agent that isn't installed here."""
    try:
        return getattr(config_of(agent), "FIXED", {})
    except UsageError:
        return {}


def _run_periods(shared: Mapping[str, Any]) -> dict[str, float]:
    """Return the periods that all agents have, in transitions."""
    budget = shared.get("total_steps")
    if not isinstance(budget, int):
        return {}
    return {name: shared.get(name) or max(1, budget // share) for name, share in SHARES.items()}


def _config(agent: str, own: Mapping[str, Any]) -> Any:
    """Return an agent's config; None if it can't be made."""
    try:
        return make_config(agent, **own)
    except UsageError:
        return None


def _lab_terms(config: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the fields that the lab's agents have under another name, with their values there."""
    tell = getattr(config, "in_lab_terms", None)
    return {} if tell is None else tell()


def _periods(config: Any, shared: Mapping[str, Any]) -> dict[str, float]:
    """Return an agent's own periods in transitions; {} if its config doesn't tell them, or couldn't be made."""
    tell = getattr(config, "transitions", None)
    horizon = shared.get("horizon_steps") or shared.get("total_steps", 0)  # over which schedules go
    return {} if tell is None else dict(tell(shared.get("num_envs", 1), horizon))

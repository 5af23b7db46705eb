"""Tabular agents by the names under which they are registered, without a run around them."""

from __future__ import annotations

from rl_lab.agents import tabular
from rl_lab.seeding import Streams

NAMES = (
    "q-learning", "double-q-learning", "sarsa", "expected-sarsa", "n-step-sarsa", "tree-backup", "q-lambda",
    "sarsa-lambda", "monte-carlo", "dyna-q", "dyna-q-plus", "learned-prioritised-sweeping", "td-prediction",
)  # fmt: skip


def learner(name: str, **fields):
    """Return the learner that a name and fields give."""
    return getattr(tabular, f"build_{name.replace('-', '_')}")(**fields)


def table_agent(name: str, problem, streams: Streams | None = None, **fields):
    """Return the agent that a name and fields give on a problem."""
    made = learner(name, **fields)
    assert (reason := made.refuse(problem)) is None, reason
    return made.build_agent(made.config, problem, streams or Streams(problem.seed))

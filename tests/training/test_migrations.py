"""Members of checkpoints of format 1."""

from __future__ import annotations

from pathlib import Path

from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.storage import formats
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.training.migrations import member_migrations
from toys import Identity, problem_on

FIXTURES = Path(__file__).parents[1] / "fixtures" / "format_1"
SPEC = problem_on(Identity).spec


def migrated(members):
    return formats.migrate(members, 1, member_migrations(SPEC))


def test_run_from_before_there_was_early_stopping_gets_a_fresh_rule():
    members = Checkpoints(FIXTURES / "q-learning" / "checkpoints").load()[1]
    assert "early_stopping" not in members["run"]
    found = migrated(members)
    assert found["run"] == members["run"] | {"early_stopping": EarlyStopping().state_dict()}
    assert {n: m for n, m in found.items() if n != "run"} == {n: m for n, m in members.items() if n != "run"}


def test_rule_that_was_saved_is_kept():
    run = {"early_stopping": {"best": 3.0, "since_best": 2, "reason": None}, "at": 4}
    assert migrated({"run": run, "agent": {"q": 1}}) == {"run": run, "agent": {"q": 1}}


def test_learner_that_saves_no_agent_needs_none():
    assert "agent" not in migrated({"run": {}, "weights": {"v": 1}})

"""Evaluations with an evaluator that the test writes: pending ones, rows, and what ends a run."""

from __future__ import annotations

import json

import pytest

from rl_lab.runs.early_stopping import EarlyStopping
from rl_lab.runs.evaluations import Evaluations
from rl_lab.runs.progress import NullProgress
from rl_lab.runs.rows import RowFiles, read_rows

POLICY = object()


def never():
    return False


class Scripted:
    """Measures what the script says; at None it is cut short."""

    def __init__(self, *script):
        self.script = list(script)

    def measure(self, policy, should_stop):
        assert policy is POLICY
        mean_return = self.script.pop(0)
        return None if mean_return == "cut" else {"eval_return_mean": mean_return, "asked": should_stop()}

    def show(self, policy):
        return []


@pytest.fixture
def rows(tmp_path):
    files = RowFiles(tmp_path)
    yield files
    files.close()


def evaluations(rows, *script, **rule):
    return Evaluations(Scripted(*script), EarlyStopping(**rule), rows)


def test_only_a_pending_one_is_played(rows, tmp_path):
    found = evaluations(rows, 3.0)
    assert found.play_pending(10, POLICY, never) is None
    found.pending = True
    assert found.play_pending(20, POLICY, never)["eval_return_mean"] == 3.0
    assert not found.pending
    assert found.play_pending(30, POLICY, never) is None
    assert read_rows(tmp_path) == [{"env_steps": 20, "eval_return_mean": 3.0, "asked": False}]


def test_one_that_is_cut_short_stays_pending_and_leaves_no_row(rows, tmp_path):
    found = evaluations(rows, "cut", 3.0)
    found.pending = True
    assert found.play_pending(20, POLICY, never) is None
    assert found.pending
    assert read_rows(tmp_path) == []
    assert found.play_pending(20, POLICY, never)["eval_return_mean"] == 3.0
    assert len(read_rows(tmp_path)) == 1


def test_one_that_ends_the_run_leaves_its_row_to_the_end(rows, tmp_path):
    found = evaluations(rows, 1.0, 5.0, threshold=5.0)
    for env_steps in (10, 20):
        assert found.end is None
        found.pending = True
        found.play_pending(env_steps, POLICY, never)
    assert found.end == "the evaluation return 5 has reached 5"
    assert [row["env_steps"] for row in read_rows(tmp_path)] == [10]
    assert found.play_last(POLICY, never)["eval_return_mean"] == 5.0  # it isn't played again


def test_the_last_one_of_any_other_run_is_played_then(rows):
    found = evaluations(rows, 7.0, "cut")
    assert found.play_last(POLICY, never)["eval_return_mean"] == 7.0
    assert found.play_last(POLICY, never) is None


def test_without_episodes_there_is_nothing_to_judge(rows, tmp_path):
    found = evaluations(rows, None, patience=1)
    found.pending = True
    assert found.play_pending(10, POLICY, never)["eval_return_mean"] is None
    assert not found.pending
    assert found.end is None
    assert len(read_rows(tmp_path)) == 1


def test_restored_ones_go_on_where_they_were(rows):
    found = evaluations(rows, 2.0, "cut", patience=1)
    for env_steps in (10, 20):
        found.pending = True
        found.play_pending(env_steps, POLICY, never)
    other = evaluations(rows, 1.0, patience=1)
    other.load_state_dict(json.loads(json.dumps(found.state_dict())))
    assert other.play_pending(20, POLICY, never)["eval_return_mean"] == 1.0
    assert other.end == "no evaluation return above 2 in 1 evaluations"


class Heard(NullProgress):
    """Keeps what a person would be told."""

    def __init__(self):
        self.notes, self.done = [], []

    def note(self, text):
        self.notes.append(text)

    def doing(self, what):
        self.done.append(what)


class CutOff:
    """Measures episodes that were cut off."""

    def measure(self, policy, should_stop):
        limit = "20 steps in all, after which 2 of 5 episodes had begun"
        return {
            "eval_return_mean": 1.0,
            "eval_returns": [1.0, 1.0],
            "eval_capped_episodes": 1,
            "eval_limit": limit,
        }


def test_that_episodes_were_cut_off_is_told_once_and_stands_in_every_row(rows, tmp_path):
    heard = Heard()
    found = Evaluations(CutOff(), EarlyStopping(), rows, progress=heard)
    for step in (10, 20):
        found.pending = True
        found.play_pending(step, POLICY, never)
    (line,) = heard.notes
    assert line.startswith("evaluation: 1 of 2 episodes were cut off, at 20 steps in all, after which 2 of 5")
    assert [row["eval_limit"][:8] for row in read_rows(tmp_path)] == ["20 steps"] * 2
    assert heard.done == ["evaluation", ""] * 2

"""Callbacks in whole runs of every kind: what they hear, that they change nothing, and how they stop a run."""

from __future__ import annotations

import json

import pytest

import counting
import rl_lab
from listeners import Listener
from rl_lab.runs.callbacks import CallbackFailed
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.types import UsageError
from runs import SMALL_DQN, differences, learn, stopping_in_evaluation

LAKE = {"total_steps": 400, "log_every_steps": 100, "eval_every_steps": 200, "checkpoint_every_steps": 200}
KINDS = {
    "q-learning": ("FrozenLake-v1", LAKE),
    "dqn": ("CartPole-v1", LAKE | SMALL_DQN | {"dropout": 0.1}),
    "value-iteration": ("FrozenLake-v1", {}),
    "sb3-a2c": ("CartPole-v1", LAKE | {"n_steps": 10}),
}
"""An agent of each way to learn, with its environment and fields; dropout draws from torch's global generator."""


@pytest.mark.parametrize("agent", KINDS)
def test_what_is_learned_is_the_same_with_and_without(tmp_path, agent):
    env_id, fields = KINDS[agent]
    listener = Listener()
    learn(tmp_path / "with", agent, env_id, callbacks=[listener], **fields)
    learn(tmp_path / "without", agent, env_id, **fields)
    assert differences(fingerprint(tmp_path / "with"), fingerprint(tmp_path / "without")) == set()
    assert {kind for kind, _ in listener.events} == {"row", "evaluation", "checkpoint"}
    assert [row for row in listener.rows if "path" not in row] == read_rows(tmp_path / "with")


def test_events_come_when_something_is_written(tmp_path):
    listener = Listener()
    learn(tmp_path, "q-learning", "FrozenLake-v1", callbacks=[listener], keep_best=0, **LAKE)
    assert listener.of("row") == [100, 200, 300, 400]
    assert listener.of("evaluation") == [200, 400]
    assert listener.of("checkpoint") == [200, 400]
    saved = [row for row in listener.rows if "path" in row]
    assert [set(row) for row in saved] == [{"env_steps", "score", "path"}] * 2
    assert all(str(tmp_path / "checkpoints") in row["path"] for row in saved)


@pytest.mark.parametrize("kind", ["row", "evaluation", "checkpoint"])
@pytest.mark.parametrize("agent", ["q-learning", "dqn"])
def test_a_run_that_is_stopped_and_resumed_ends_as_if_it_had_not_been(tmp_path, agent, kind):
    env_id, fields = KINDS[agent]
    whole = learn(tmp_path / "whole", agent, env_id, **fields)

    def enough(event):
        if event.kind == kind and event.env_steps >= 100:
            event.stop("seen enough")

    stopped = learn(tmp_path / "cut", agent, env_id, callbacks=[enough], **fields)
    assert stopped.summary is None
    assert stopped.resumes
    assert stopped.stopped_by == "callback enough: seen enough"
    assert 100 <= stopped.env_steps < 400
    resumed = rl_lab.resume(tmp_path / "cut")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    stop = {"env_steps": stopped.env_steps, "reason": "callback enough: seen enough"}
    assert resumed.summary["callback_stops"] == [stop]
    assert "callback_stops" not in whole.summary


def test_callbacks_are_given_again_on_resume_and_may_stop_again(tmp_path):
    def at(step):
        return lambda event: event.env_steps < step

    learn(tmp_path, "q-learning", "FrozenLake-v1", callbacks=[at(100)], **LAKE)
    assert rl_lab.resume(tmp_path, callbacks=[at(300)]).summary is None
    last = rl_lab.resume(tmp_path)
    assert [stop["env_steps"] for stop in last.summary["callback_stops"]] == [100, 300]


def test_a_stop_before_the_first_step_of_a_resumed_run_is_saved_with_its_reason(tmp_path, monkeypatch):
    """Its open episode can't be replayed in another world: a row says so before the pending evaluation is played."""
    fields = {"total_steps": 100, "eval_every_steps": 53}
    with stopping_in_evaluation(0):
        assert learn(tmp_path, "random", "test/Wayward-v0", **fields).summary is None
    monkeypatch.setattr(counting.Wayward, "world", 1)
    heard = []

    def at_once(event):
        heard.append(event.row)
        return False

    stopped = rl_lab.resume(tmp_path, callbacks=[at_once])
    assert "truncated_at_resume" in heard[0]
    stop = {"env_steps": stopped.env_steps, "reason": "callback at_once"}
    assert rl_lab.resume(tmp_path).summary["callback_stops"] == [stop]
    assert [row["env_steps"] for row in read_rows(tmp_path) if "eval_returns" in row] == [53, 100]


def test_a_solver_is_finished_anyway(tmp_path):
    solved = learn(tmp_path, "value-iteration", "FrozenLake-v1", callbacks=[lambda event: False])
    assert solved.stopped_by is None
    assert solved.summary["regret"] == pytest.approx(0, abs=1e-9)


def test_sb3_stops_and_says_that_it_does_not_resume(tmp_path):
    env_id, fields = KINDS["sb3-a2c"]
    stopped = learn(tmp_path, "sb3-a2c", env_id, callbacks=[lambda event: event.env_steps < 200], **fields)
    assert (stopped.summary, stopped.resumes, stopped.env_steps) == (None, False, 200)


@pytest.mark.parametrize("kind", ["row", "evaluation"])
def test_asking_to_stop_at_the_end_changes_nothing(tmp_path, kind):
    def at_the_end(event):
        return not (event.kind == kind and event.env_steps == 400)

    result = learn(tmp_path, "q-learning", "FrozenLake-v1", callbacks=[at_the_end], **LAKE)
    assert result.summary["env_steps"] == 400
    assert "callback_stops" not in result.summary
    assert result.stopped_by is None


@pytest.mark.parametrize("agent", ["q-learning", "sb3-a2c"])
def test_an_exception_comes_out_after_saving(tmp_path, agent):
    env_id, fields = KINDS[agent]

    def breaks(event):
        if event.env_steps >= 200:
            raise ValueError("no such\nplot")

    with pytest.raises(
        CallbackFailed, match=r"^callback breaks failed at env step 200: ValueError: no such plot$"
    ):
        learn(tmp_path, agent, env_id, callbacks=[breaks], **fields)
    assert rl_lab.load_policy(tmp_path).act is not None
    if agent == "q-learning":
        stop = rl_lab.resume(tmp_path).summary["callback_stops"][0]
        assert stop == {"env_steps": 200, "reason": "callback breaks: failed, ValueError: no such plot"}


def test_what_is_no_callback_is_refused_before_there_is_a_folder(tmp_path):
    with pytest.raises(UsageError, match="can't be called"):
        learn(tmp_path / "run", "q-learning", "FrozenLake-v1", callbacks=[3])
    assert not (tmp_path / "run").exists()


def test_config_json_knows_nothing_of_them(tmp_path):
    learn(tmp_path, "random", "FrozenLake-v1", callbacks=[Listener()], total_steps=20)
    assert "callbacks" not in json.loads((tmp_path / "config.json").read_bytes())

"""Starting runs: one in a folder, and never over what is left of another."""

from __future__ import annotations

import json
import multiprocessing
import shutil

import numpy as np
import pytest

import odd_models  # noqa: F401  registers odd/*
import rl_lab
from rl_lab.runs.config import RunConfig
from rl_lab.runs.progress import NullProgress
from rl_lab.runs.rows import read_rows
from rl_lab.storage.locking import exclusive
from rl_lab.training import launch, running
from rl_lab.training.learner import Learner
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of, resolved
from rl_lab.types import UsageError
from runs import QUICK, SMALL_DQN, learn

FORK = multiprocessing.get_context("fork")


class TestOneRunPerFolder:
    def test_second_process_is_refused_while_the_first_trains(self, tmp_path):
        learn(tmp_path / "run", "q-learning", "FrozenLake-v1", stop_at=200, total_steps=1000)
        before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
        held, done = FORK.Event(), FORK.Event()
        holder = FORK.Process(target=_hold, args=(tmp_path / "run", held, done))
        holder.start()
        try:
            assert held.wait(60)
            with pytest.raises(UsageError, match="being trained by another process"):
                rl_lab.resume(tmp_path / "run")
        finally:
            done.set()
            holder.join()
        assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before
        assert rl_lab.resume(tmp_path / "run").summary is not None

    @pytest.mark.parametrize("lost", ["config.json", "metrics.jsonl", "checkpoints"])
    def test_what_is_left_of_a_run_is_not_overwritten(self, tmp_path, lost):
        folder = tmp_path / "run"
        learn(folder, "q-learning", "FrozenLake-v1", total_steps=300)
        shutil.rmtree(folder / lost) if (folder / lost).is_dir() else (folder / lost).unlink()
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(UsageError, match="already holds a run"):
            learn(folder, "q-learning", "FrozenLake-v1", total_steps=300, seed=2)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    def test_corrected_attempt_may_follow_one_that_failed_at_its_start(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("rl_lab.training.session.Session.go", lambda self: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=300)
        assert learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=300).summary is not None


class TestRefusedSettingsOfWandb:
    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [("WANDB_MODE", "foo", "WANDB_MODE=foo: allowed are"), ("WANDB_TAGS", "a" * 65, "wandb_tags")],
    )
    @pytest.mark.parametrize("run_dir", [None, "run"])
    def test_leave_no_folder(self, tmp_path, monkeypatch, name, value, says, run_dir):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("WANDB_MODE", "disabled")
        monkeypatch.setenv(name, value)
        fields = {key: value for key, value in QUICK.items() if key != "wandb"}
        with pytest.raises(UsageError, match=says):
            rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=run_dir, total_steps=100, **fields)
        assert list(tmp_path.iterdir()) == []


def _hold(folder, held, done):
    with exclusive(folder):
        held.set()
        done.wait(120)


class Shown(NullProgress):
    """Counts how often it is closed."""

    closed = 0

    def close(self):
        self.closed += 1


def test_the_progress_display_is_closed_if_the_run_cannot_begin(tmp_path, monkeypatch):
    shown = Shown()

    def refuses(*args, **kwargs):
        raise OSError("no run")

    monkeypatch.setattr(running, "make_progress", lambda total_steps, at: shown)
    monkeypatch.setattr(running, "Run", refuses)
    with pytest.raises(OSError, match="no run"):
        launch.learn("random", "FrozenLake-v1", progress=True, run_dir=tmp_path, **QUICK)
    assert shown.closed == 1


class Rows(NullProgress):
    """Keeps the rows that it is shown, and the lines."""

    def __init__(self):
        self.rows, self.lines = [], []

    def show(self, row, spent=None):
        self.rows.append(row)

    def note(self, text):
        self.lines.append(text)


@pytest.mark.parametrize("loss", [np.float32(0.5), np.array(0.5), np.array([0.5, np.nan])])
def test_a_display_is_shown_rows_as_they_are_written(tmp_path, monkeypatch, loss):
    monkeypatch.setattr("rl_lab.training.meter.Meter.take", lambda self: {"loss": loss})
    shown = Rows()
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20, progress=lambda total_steps, at: shown)
    assert shown.rows == [row for row in read_rows(tmp_path) if "loss" in row]
    assert shown.rows[0]["loss"] in (0.5, [0.5, None])


class TestNotesOfARun:
    """No episode of the cliff ends by itself, and the evaluation is cut off."""

    FIELDS = {"total_steps": 20, "eval_total_steps": 20, "log_every_steps": 20}  # noqa: RUF012

    def test_are_warnings_of_python_without_a_display(self, tmp_path):
        with pytest.warns(UserWarning, match="ended|cut off") as said:
            learn(tmp_path, "random", "CliffWalking-v1", progress=False, **self.FIELDS)
        texts = [str(warning.message) for warning in said]
        assert [text.split(" (")[0] for text in texts] == [
            "evaluation: 1 of 1 episodes were cut off, at 20 steps in all, after which 1 of 2 episodes had begun",
            "no training episode ended within 20 steps",
        ]

    def test_are_shown_by_a_display_once_and_warn_of_nothing(self, tmp_path, recwarn):
        shown = Rows()
        learn(tmp_path, "random", "CliffWalking-v1", progress=lambda *_: shown, **self.FIELDS)
        assert len(shown.lines) == 2
        assert not [w for w in recwarn if w.category is UserWarning]

    def test_of_the_environment_lose_their_prefix(self, tmp_path):
        with pytest.warns(UserWarning, match="^the model of odd_models:odd/Leaking-v0 ") as said:
            learn(tmp_path, "random", "odd_models:odd/Leaking-v0", progress=False, total_steps=20)
        assert len([w for w in said if "the model allows" in str(w.message)]) == 1


class TestResolved:
    def problem(self):
        return problem_of(RunConfig("FrozenLake-v1", device="cpu"), object())

    def test_leaves_the_learner_that_was_given_as_it_was(self):
        learner = make_learner("dqn")
        decided = resolved("dqn", learner, self.problem())
        assert (learner.config.compile, type(decided)) == ("auto", type(learner))
        assert decided.config.compile in ("yes", "no")

    def test_builds_a_learner_again_that_cannot_do_it_itself(self):
        class Plain:
            config = make_learner("dqn").config

        learner: Learner = Plain()
        assert resolved("dqn", learner, self.problem()).config.compile in ("yes", "no")


class TestFieldsAndObservations:
    def test_numbers_of_numpy_are_written_as_numbers(self, tmp_path):
        fields = {
            "total_steps": np.int64(60),
            "eval_gamma": np.float32(0.5),
            "learning_rate": np.float32(0.25),
        }
        result = learn(tmp_path / "run", "q-learning", "FrozenLake-v1", seed=np.int32(3), **fields)
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert (config["total_steps"], config["eval_gamma"], config["seed"]) == (60, 0.5, 3)
        assert (config["fields"]["learning_rate"], result.summary["env_steps"]) == (0.25, 60)

    @pytest.mark.parametrize(
        ("agent", "fields"),
        [
            ("ppo", {"n_steps": 16, "batch_size": 8, "n_epochs": 1}),
            ("dqn", SMALL_DQN | {"memory": "gru", "normalise_observations": True}),
        ],
    )
    def test_keys_of_observations_may_be_numbers(self, tmp_path, agent, fields):
        given = {"total_steps": 150, "hidden": (8,), "checkpoint_every_steps": 40}
        whole = learn(tmp_path / "a", agent, "odd/Numbered-v0", **(fields | given))
        learn(tmp_path / "b", agent, "odd/Numbered-v0", stop_at=90, **(fields | given))
        resumed = rl_lab.resume(tmp_path / "b")
        assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]

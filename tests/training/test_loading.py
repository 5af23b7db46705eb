"""Policies and weights, back from run directories."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import numpy as np
import pytest

from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.training import loading
from rl_lab.training.loading import load_policy, read_weights
from rl_lab.types import UsageError
from runs import learn


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading") / "run"
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=300, threads=1)
    return folder


@pytest.fixture
def twice(run, tmp_path):
    """A run whose best checkpoint, of zeros, is older than its last one, of ones."""
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copy(run / "config.json", folder)
    checkpoints = Checkpoints(folder / CHECKPOINTS, keep_last=2, keep_best=1)
    for env_steps, (value, score) in enumerate([(0.0, 5.0), (1.0, 2.0)]):
        checkpoints.save(env_steps, {"weights": {"q": np.full((16, 4), value)}}, {"score": score})
    return folder


def test_the_policy_is_greedy_in_the_stored_table(run):
    q, policy = read_weights(run)["q"], load_policy(run)
    states = np.arange(16)
    taken = policy.act(states, policy.initial_state(16), np.ones(16, np.bool_)).action
    assert taken.tolist() == q.argmax(axis=1).tolist()
    np.testing.assert_array_equal(policy.inspect(states, (), np.ones(16, np.bool_))["q_values"], q)


@pytest.mark.parametrize(("best", "value"), [(False, 1.0), (True, 0.0)], ids=["last", "best"])
def test_the_last_checkpoint_is_read_unless_the_best_is_asked_for(twice, best, value):
    assert (read_weights(twice, best=best)["q"] == value).all()
    shown = load_policy(twice, best=best).inspect(np.arange(2), (), np.ones(2, np.bool_))
    assert (shown["q_values"] == value).all()


def test_a_policy_is_loaded_with_the_threads_of_its_run(run, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "limited_threads", lambda threads: asked.append(threads) or nullcontext())
    load_policy(run)
    assert asked == [1]


def test_paths_may_be_text(run):
    assert np.array_equal(read_weights(str(run))["q"], read_weights(run)["q"])


@pytest.mark.parametrize("read", [load_policy, read_weights])
class TestRefusals:
    def test_a_folder_without_a_run(self, read, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            read(tmp_path)

    def test_a_run_without_a_checkpoint(self, read, run, tmp_path):
        shutil.copy(run / "config.json", tmp_path)
        with pytest.raises(UsageError, match="has no checkpoint yet"):
            read(tmp_path)

    def test_checkpoints_none_of_which_is_whole(self, read, run, tmp_path):
        folder = shutil.copytree(run, tmp_path / "run")
        for path in (folder / CHECKPOINTS).rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.warns(UserWarning, match="passed over"), pytest.raises(CheckpointCorrupt):
            read(folder)

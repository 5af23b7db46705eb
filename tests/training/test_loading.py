"""Policies and weights, back from run directories."""

from __future__ import annotations

import shutil
from contextlib import nullcontext

import numpy as np
import pytest

import rl_lab
from rl_lab.runs.config import RunConfig
from rl_lab.runs.directory import CHECKPOINTS
from rl_lab.runs.rows import read_rows
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.training import loading
from rl_lab.training.loading import load_newest, load_policy, read_weights, with_eval_gamma
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
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


def test_the_newest_policy_comes_with_the_step_of_the_checkpoint_that_was_whole(twice):
    def newest():
        policy, env_steps = load_newest(twice)
        return policy.inspect(np.arange(1), (), np.ones(1, np.bool_))["q_values"][0, 0], env_steps

    assert newest() == (1.0, 1)
    Checkpoints(twice / CHECKPOINTS).manifests()[-1].write_text("{}")
    with pytest.warns(UserWarning, match="passed over"):
        assert newest() == (0.0, 0)


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


class TestDiscountOfEvaluations:
    """A run's policy is evaluated with the discount with which the run evaluates it."""

    @pytest.fixture(scope="class")
    @staticmethod
    def half(tmp_path_factory):
        fields = {"total_steps": 300, "eval_gamma": 0.5, "eval_episodes": 3, "seed": 4}
        return learn(tmp_path_factory.mktemp("half") / "run", "q-learning", "FrozenLake-v1", **fields)

    def played(self, policy, **given):
        return rl_lab.evaluate(policy, rl_lab.make_envs("FrozenLake-v1", 2), episodes=3, seed=4, **given)

    @pytest.mark.parametrize("source", ["learn", "load_policy", "resume"])
    def test_is_the_runs(self, half, source):
        policies = {
            "learn": lambda: half.policy,
            "load_policy": lambda: load_policy(half.run_dir),
            "resume": lambda: rl_lab.resume(half.run_dir).policy,
        }
        played = self.played(policies[source]())
        assert played.gamma == 0.5
        row = next(row for row in reversed(read_rows(half.run_dir)) if "eval_returns" in row)
        assert played.returns.tolist() == row["eval_returns"]
        assert played.discounted_returns.mean() == row["eval_discounted_return_mean"]

    def test_may_be_given(self, half):
        played = self.played(half.policy, gamma=0.25)
        assert played.gamma == 0.25
        expected = played.returns * 0.25 ** (played.lengths - 1)  # the only reward is the last one
        np.testing.assert_allclose(played.discounted_returns, expected)

    def test_is_1_for_a_policy_of_no_run(self, half):
        played = self.played(make_learner("q-learning").load(half_problem(), read_weights(half.run_dir)))
        assert played.gamma == 1.0
        assert played.discounted_returns.tolist() == played.returns.tolist()

    def test_is_not_told_to_a_policy_that_takes_no_attributes(self):
        class Closed:
            __slots__ = ()

        closed = Closed()
        assert with_eval_gamma(closed, 0.5) is closed


def half_problem():
    return problem_of(RunConfig("FrozenLake-v1"), make_learner("q-learning"))

"""Warm starts: the weights of another run, and nothing else of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch._dynamo  # noqa: F401  an optimiser loads it

import rl_lab
import rl_lab.agents.dqn
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.training.loading import read_weights
from rl_lab.types import UsageError
from runs import SMALL_DQN, differences, learn

STEPS = 400


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "source"
    learn(folder, "dqn", "CartPole-v1", total_steps=STEPS, seed=5, **SMALL_DQN)
    return folder


class TestWarmStart:
    def test_takes_the_weights_and_nothing_else(self, source, tmp_path):
        learn(
            tmp_path, "dqn", "CartPole-v1", stop_at=1, total_steps=STEPS, init_from=str(source), **SMALL_DQN
        )
        members = Checkpoints(tmp_path / "checkpoints").load()[1]
        weights = read_weights(source)
        for tree in (members["weights"], members["agent"]["target"]):
            assert all(np.array_equal(tree[name], weights[name]) for name in weights)
        assert members["agent"]["env_steps"] == 1
        assert members["agent"]["gradient_steps"] == 0
        assert members["agent"]["optimiser"] == {}
        config = json.loads((tmp_path / "config.json").read_bytes())
        assert config["init_from"] == str(source)
        assert config["init_from_weights_sha256"] == weights_sha256(weights)

    def test_resumes_without_its_source(self, source, tmp_path):
        copy = shutil.copytree(source, tmp_path / "copy")
        fields = {"total_steps": STEPS, "init_from": str(copy)} | SMALL_DQN
        learn(tmp_path / "whole", "dqn", "CartPole-v1", **fields)
        learn(tmp_path / "cut", "dqn", "CartPole-v1", stop_at=99, **fields)
        shutil.rmtree(copy)
        rl_lab.resume(tmp_path / "cut")
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()

    @pytest.mark.parametrize(
        ("agent", "env_id", "fields", "named"),
        [
            ("dqn", "CartPole-v1", {"hidden": (8,)}, "encoder.layers.1.weight"),
            ("dqn", "Acrobot-v1", {"hidden": (16,)}, "shape"),
            (
                "dqn",
                "CartPole-v1",
                {"hidden": (16,), "normalise_observations": True},
                "this run has weights 'normaliser.moments.count', that one has none",
            ),
            ("q-learning", "FrozenLake-v1", {}, "'q'"),
            ("value-iteration", "FrozenLake-v1", {}, "value-iteration"),
            ("sb3-dqn", "CartPole-v1", {"replay_capacity": 40}, "init_from"),
        ],
    )
    def test_weights_that_do_not_fit_are_named(self, source, tmp_path, agent, env_id, fields, named):
        with pytest.raises(UsageError, match=named) as refused:
            learn(tmp_path / "run", agent, env_id, init_from=str(source), total_steps=10, **fields)
        assert "\n" not in str(refused.value)
        assert not list((tmp_path / "run").glob("*"))  # nor a lock

    def test_folder_of_our_own_naming_goes_with_a_refusal(self, source, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="shape"):
            rl_lab.learn(
                "dqn", "CartPole-v1", init_from=str(source), total_steps=10, hidden=(8, 8), wandb="disabled"
            )
        assert not list((tmp_path / "runs").iterdir())

    def test_source_without_a_run_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            learn(tmp_path / "run", "dqn", "CartPole-v1", init_from=str(tmp_path / "nothing"), total_steps=10)


class TestWarmStartThatDiedEarly:
    @pytest.fixture(scope="class")
    @staticmethod
    def source(tmp_path_factory):
        folder = tmp_path_factory.mktemp("source") / "run"
        learn(folder, "q-learning", "FrozenLake-v1", total_steps=2000)
        return folder

    def died_before_its_first_checkpoint(self, folder, source):
        fields = {
            "init_from": str(source),
            "learning_rate": 1e-300,  # which moves no value that isn't 0
            "learning_rate_final": 0.0,
            "total_steps": 300,
        }
        learn(folder, "q-learning", "FrozenLake-v1", **fields)
        shutil.rmtree(folder / "checkpoints")
        (folder / "summary.json").unlink()

    def test_starts_from_the_same_weights_again(self, source, tmp_path):
        self.died_before_its_first_checkpoint(tmp_path / "run", source)
        rl_lab.resume(tmp_path / "run")
        before, after = (read_weights(run)["q"] for run in (source, tmp_path / "run"))
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-290)
        assert read_weights(source)["q"].any()

    def test_refuses_a_source_that_has_changed(self, source, tmp_path):
        other = shutil.copytree(source, tmp_path / "other")
        self.died_before_its_first_checkpoint(tmp_path / "run", other)
        shutil.rmtree(other)
        learn(other, "q-learning", "FrozenLake-v1", total_steps=100, seed=9)
        with pytest.raises(UsageError, match="other weights"):
            rl_lab.resume(tmp_path / "run")

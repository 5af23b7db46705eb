"""Runs in which one cause stands alone are charged to it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import diagnosed  # noqa: F401  registers diagnosed/*
import rl_lab
from rl_lab.diagnosis.files import write_diagnosis
from rl_lab.types import UsageError
from runs import learn

DEEP = {"compile": "no", "learning_starts_env_steps": 50, "total_steps": 400}
BOARD = {"gamma": 0.5, **DEEP}


def diagnosed_run(folder, agent, env_id, *, fits=2, fit_steps=200, episodes=1, **fields):
    learn(folder, agent, env_id, **fields)
    return rl_lab.diagnose(folder, fits=fits, fit_steps=fit_steps, episodes=episodes)


class TestCharges:
    def test_a_table_that_never_explores_to_exploration(self, tmp_path):
        """Going right costs, so that without epsilon the sea is never crossed."""
        greedy = {"epsilon_initial": 0.0, "epsilon_final": 0.0}
        found = diagnosed_run(tmp_path, "q-learning", "lab/DeepSea-v0", total_steps=1000, **greedy)
        split = found.split
        assert split.main == "exploration"
        assert split.exploration == pytest.approx(split.regret, abs=1e-10)
        assert split.visited_states < split.states == 55
        assert "mainly exploration" in str(found)

    def test_a_network_too_small_for_a_checkerboard_to_representation(self, tmp_path):
        found = diagnosed_run(
            tmp_path, "dqn", "diagnosed/Checkerboard-v0", fits=1, fit_steps=100, hidden=(2,), **BOARD
        )
        split = found.split
        assert split.main == "representation"
        assert split.representation > 0.6 * split.regret
        assert sum(split.parts.values()) == pytest.approx(split.regret, abs=1e-10)
        assert "a better fit may exist" in str(found)

    def test_a_learning_rate_near_0_to_the_rest(self, tmp_path):
        fields = {"hidden": (32, 32), "learning_rate": 1e-9, **BOARD}
        split = diagnosed_run(tmp_path, "dqn", "diagnosed/Checkerboard-v0", fits=4, **fields).split
        assert split.main == "rest"
        assert split.parts == pytest.approx({"exploration": 0, "representation": 0, "rest": split.regret})
        assert split.regret > 0.5

    def test_the_huber_loss_s_bias_to_the_loss(self, tmp_path):
        fields = {
            "n_steps": 3, "gamma": 0.9, "hidden": (), "learning_rate": 0.03, "learning_rate_final": 1e-3,
            "target_period_env_steps": 40,
        }  # fmt: skip
        found = diagnosed_run(
            tmp_path, "dqn", "diagnosed/TwoStates-v0", **(DEEP | fields | {"total_steps": 3000})
        )
        loss = found.loss
        assert (loss.optimal_value, loss.squared_value) == pytest.approx((2.908, 2.908), abs=1e-3)
        assert loss.loss_value == pytest.approx(3.891, abs=1e-3)
        assert loss.from_loss > 3 * abs(loss.from_learning)
        error = loss.from_targets + loss.from_loss + loss.from_learning
        assert loss.predicted_value - loss.optimal_value == pytest.approx(error, abs=1e-10)

    @pytest.mark.parametrize(("loss", "value"), [("huber", 4.152), ("squared", 2.908)])
    def test_the_loss_by_the_run_s_own_fields(self, tmp_path, loss, value):
        fields = DEEP | {"total_steps": 20, "gamma": 0.9, "loss": loss}
        found = diagnosed_run(tmp_path, "dqn", "diagnosed/TwoStates-v0", **fields).loss
        assert found.loss_value == pytest.approx(value, abs=1e-3)

    def test_sb3_s_loss_is_the_same(self, tmp_path):
        fields = {"total_steps": 20, "gamma": 0.9, "learning_starts_env_steps": 10, "replay_capacity": 100}
        found = diagnosed_run(tmp_path, "sb3-dqn", "diagnosed/TwoStates-v0", **fields).loss
        assert found.loss_value == pytest.approx(4.152, abs=1e-3)


class TestLearners:
    @pytest.mark.parametrize(
        ("agent", "fields", "said"),
        [
            ("q-learning", {}, "a table"),
            ("random", {}, "one policy"),
            ("value-iteration", {}, "a table"),
            ("dqn", DEEP, "a network"),
            ("ppo", {"compile": "no", "n_steps": 64}, "a network"),
            ("clone", {"oracle": True, "learning_starts_env_steps": 20}, "a network"),
            ("sb3-dqn", {"learning_starts_env_steps": 20, "replay_capacity": 200}, "a network"),
            ("sb3-ppo", {"n_steps": 64}, "a network"),
        ],
    )
    def test_every_one_with_a_model_is_split(self, tmp_path, agent, fields, said):
        found = diagnosed_run(tmp_path, agent, "FrozenLake-v1", **({"total_steps": 128} | fields))
        split, summary = found.split, json.loads((tmp_path / "summary.json").read_text())
        assert said in split.function_class
        assert split.regret == pytest.approx(summary["regret"], abs=1e-9)
        assert min(split.parts.values()) >= 0
        assert sum(split.parts.values()) == pytest.approx(split.regret, abs=1e-10)
        assert found.calibration.steps > 0

    def test_the_exact_solution_loses_nothing(self, tmp_path):
        found = diagnosed_run(tmp_path, "policy-iteration", "FrozenLake-v1")
        assert set(found.split.parts.values()) == {0.0}
        assert found.visits.from_model

    def test_a_random_agent_is_charged_to_having_one_policy(self, tmp_path):
        split = diagnosed_run(tmp_path, "random", "FrozenLake-v1", total_steps=500).split
        assert split.main == "representation"
        assert split.rest == 0

    @pytest.mark.parametrize(("agent", "fields"), [("ppo", {"compile": "no"}), ("sb3-ppo", {})])
    def test_entropy_is_told_of_policies_that_draw(self, tmp_path, agent, fields):
        steps = {"n_steps": 64, "total_steps": 64}
        found = diagnosed_run(tmp_path, agent, "CartPole-v1", **(fields | steps)).calibration
        assert 0 < found.entropy_mean <= found.entropy_uniform == pytest.approx(np.log(2))


class TestWithoutASplit:
    def test_without_a_model(self, tmp_path):
        found = diagnosed_run(tmp_path, "dqn", "CartPole-v1", **(DEEP | {"total_steps": 100}))
        assert found.split is found.loss is None
        assert found.no_split.startswith("CartPole-v1 gives no model (allowed: FrozenLake, Taxi, ")
        assert found.calibration.bias is not None
        assert found.calibration.gap_mean is not None

    def test_with_a_memory(self, tmp_path):
        fields = DEEP | {"total_steps": 100, "memory": "gru", "memory_size": 4, "hidden": (4,)}
        found = diagnosed_run(tmp_path, "dqn", "FrozenLake-v1", **fields)
        assert found.no_split == "the policy remembers, so that its choice depends on more than the state"
        assert found.calibration.bias is not None

    def test_with_heads_and_a_memory(self, tmp_path):
        fields = DEEP | {"total_steps": 100, "memory": "gru", "memory_size": 4, "hidden": (4,), "heads": 2}
        found = diagnosed_run(tmp_path, "dqn", "FrozenLake-v1", **fields).calibration
        assert found.steps > 0
        assert found.gap_mean is not None

    def test_where_states_look_alike(self, tmp_path):
        fields = DEEP | {"total_steps": 100}
        found = diagnosed_run(tmp_path, "dqn", "diagnosed/LookAlike-v0", **fields)
        assert found.no_split.startswith("states 0 and 1 show the same observation")
        assert found.loss is not None

    def test_a_model_that_is_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rl_lab.diagnosis.diagnose.MOST_STATES", 15)
        found = diagnosed_run(tmp_path, "q-learning", "FrozenLake-v1", total_steps=50)
        assert found.no_split == "the model has 16 states, more than 15"

    def test_a_scale_of_its_own_has_no_known_fixed_point(self, tmp_path):
        fields = DEEP | {"total_steps": 60, "value_rescaling": True}
        found = diagnosed_run(tmp_path, "dqn", "FrozenLake-v1", **fields)
        assert found.loss is None
        assert found.no_loss == "value_rescaling measures errors in another scale than that of the rewards"

    def test_no_run_there(self, tmp_path):
        with pytest.raises(UsageError, match=r"config\.json"):
            rl_lab.diagnose(tmp_path)

    @pytest.mark.parametrize(("name", "value"), [("fits", 0), ("fit_steps", 0), ("episodes", -1)])
    def test_numbers_that_are_not_allowed(self, tmp_path, name, value):
        with pytest.raises(UsageError, match=f"{name} must be at least"):
            rl_lab.diagnose(tmp_path, **{name: value})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    learn(folder, "dqn", "FrozenLake-v1", **DEEP)
    return folder


class TestResult:
    def test_is_the_same_every_time_and_changes_nothing(self, run):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        results = [rl_lab.diagnose(run, fits=2, fit_steps=50).as_dict() for _ in range(2)]
        assert results[0] == results[1]
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    def test_is_written_as_plain_numbers_with_pictures(self, run):
        found = rl_lab.diagnose(run, fits=1, fit_steps=10)
        files = write_diagnosis(found, run)
        assert [file.name for file in files] == [
            "diagnosis.json", "diagnosis_regret.png", "diagnosis_visits.png", "diagnosis_loss.png",
            "diagnosis_calibration.png",
        ]  # fmt: skip
        stored = json.loads(files[0].read_text())
        assert stored == found.as_dict()
        assert {"regret", "exploration", "representation", "rest", "main"} <= stored["split"].keys()
        assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[1:])

    def test_says_what_is_not_counted(self, run):
        found = dataclasses.replace(rl_lab.diagnose(run, fits=1, fit_steps=10), notes=("something",))
        assert str(found).splitlines()[-1] == "note: something"

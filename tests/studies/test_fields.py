"""Which fields a run of a study has: its preset's, those of all, of its environment and of its agent, in this order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rl_lab.studies.fields import fields_of_run, preset_on
from rl_lab.studies.study import Study, run_study, tasks_of
from rl_lab.training.registry import preset_fields
from rl_lab.types import UsageError
from studies_made import QUIET, small_study

ZOO = "zoo:{env_id}"


def test_later_ones_take_precedence():
    preset, shared, own = "zoo:CartPole-v1", {"batch_size": 1, "seed_": 1}, {"batch_size": 3}
    on_env = {"batch_size": 2, "hidden": [9], "dqn:hidden": [4], "ppo:hidden": [5], "dqn:gamma": 0.5}
    found = fields_of_run("dqn", "E", preset, shared, own, on_env)
    assert found["learning_rate"] == 2.3e-3  # the preset's
    assert (found["seed_"], found["batch_size"], found["hidden"], found["gamma"]) == (1, 3, [4], 0.5)
    other = fields_of_run("random", "E", preset, shared, {}, on_env)
    assert other == {"batch_size": 2, "seed_": 1, "hidden": [9]}


def test_a_preset_follows_the_environment():
    assert preset_on("Acrobot-v1", ZOO) == "zoo:Acrobot-v1"
    assert preset_on(None, ZOO) is None
    assert preset_on(None, "nature") == "nature"
    for env_id in ("Acrobot-v1", "MountainCar-v0"):
        assert fields_of_run("dqn", env_id, ZOO, {}, {}, {}) == preset_fields("dqn", f"zoo:{env_id}")
    assert fields_of_run("dqn", None, ZOO, {"gamma": 1}, {}, {}) == {"gamma": 1}


def test_an_environment_may_have_a_preset_of_its_own_for_all_or_for_one():
    on_env = {"preset": "zoo:Acrobot-v1", "ppo:preset": "zoo:CartPole-v1"}
    assert fields_of_run("dqn", "E", ZOO, {}, {}, on_env) == preset_fields("dqn", "zoo:Acrobot-v1")
    assert fields_of_run("ppo", "E", ZOO, {}, {}, on_env) == preset_fields("ppo", "zoo:CartPole-v1")


def test_an_agent_may_have_a_preset_of_its_own_on_all_environments():
    own = {"preset": ZOO, "batch_size": 3}
    zoo = preset_fields("dqn", "zoo:Acrobot-v1")
    assert fields_of_run("dqn", "Acrobot-v1", None, {}, own, {}) == zoo | {"batch_size": 3}
    on_env = {"preset": "zoo:CartPole-v1", "ppo:preset": "zoo:CartPole-v1"}
    assert fields_of_run("dqn", "Acrobot-v1", None, {}, own, on_env) == zoo | {"batch_size": 3}
    given = Study(
        ("CartPole-v1",), ("dqn", "random"), 1, fields_of={"dqn": {"preset": "recommended:CartPole-v1"}}
    )
    assert given.presets() == [("dqn", "recommended:CartPole-v1")]
    told: list[str] = []
    best = {"final_policy": "best", "selection_episodes": 20}
    tasks = tasks_of(replace(given, fields=best), Path("out"), told.append)
    assert tasks[0].fields["total_steps"] == preset_fields("dqn", "recommended:CartPole-v1")["total_steps"]
    assert any("chosen on" in line for line in told), told
    assert not any("no preset" in line for line in told), told


def test_each_environment_has_its_presets_budget_and_gamma():
    given = Study(("CartPole-v1", "MountainCar-v0"), ("dqn", "sb3-dqn"), 1, preset=ZOO)
    found = {
        (t.fields["env_id"], t.fields["total_steps"], t.fields["eval_gamma"])
        for t in tasks_of(given, Path("out"))
    }
    assert found == {("CartPole-v1", 50_000, 0.99), ("MountainCar-v0", 120_000, 0.98)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"env_fields": {"Taxi-v4": {}}}, "fields are given for environment 'Taxi-v4', which isn't compared"),
        (
            {"env_fields": {"FrozenLake-v1": {"dqn:gamma": 1}}},
            "for agent 'dqn' on FrozenLake-v1, which isn't compared",
        ),
        ({"env_fields": {"FrozenLake-v1": {"seed": 1}}}, "seed can't be given for the runs of a study"),
        ({"env_fields": {"FrozenLake-v1": {"random:run_dir": "x"}}}, "run_dir can't be given for the runs"),
        ({"env_fields": {"FrozenLake-v1": {"gama": 1}}}, "unknown field 'gama'"),
        ({"env_fields": {"FrozenLake-v1": {"random:preset": "fast"}}}, "'random' has no preset 'fast'"),
        ({"env_fields": {"FrozenLake-v1": {"preset": "fast"}}}, "'random' has no preset 'fast'"),
        ({"preset": ZOO}, "'q-learning' has no preset 'zoo:FrozenLake-v1'"),
        ({"fields": {"preset": "fast"}}, "preset 'fast' is no field of a run"),
        (
            {"fields": {"gamma": 0.9}},
            r"^gamma 0.9 is given for all agents, and 'random' has no such field \(allowed: q-learning:gamma for",
        ),
        ({"fields": {"gama": 0.9}}, "unknown field 'gama'"),
        ({"fields_of": {"random": {"preset": "fast"}}}, "'random' has no preset 'fast'"),
        ({"fields_of": {"random": {"preset": 5}}}, "preset must be a name, got 5"),
        ({"env_fields": {"FrozenLake-v1": {"preset": 5}}}, "preset must be a name, got 5"),
        ({"env_fields": {"FrozenLake-v1": {"random:preset": [5]}}}, r"preset must be a name, got \[5\]"),
    ],
)
def test_what_is_wrong_with_them_is_refused(tmp_path, changes, says):
    with pytest.raises(UsageError, match=says):
        run_study(small_study(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestAStudyThatDiffersByEnvironment:
    """It is told in study.json, and a second call has to agree with it."""

    ENVS = ("FrozenLake-v1", "CliffWalking-v1")

    def study(self, **changes):
        steps = {
            "FrozenLake-v1": {"total_steps": 60},
            "CliffWalking-v1": {"total_steps": 40, "random:num_envs": 2},
        }
        given = {"env_ids": self.ENVS, "agents": ("random",), "seeds": 1, "env_fields": steps}
        return small_study(**given | changes)

    def test_runs_each_with_its_own_fields_and_can_be_extended(self, tmp_path, monkeypatch):
        ran = []
        monkeypatch.setattr("rl_lab.studies.study.run_task", lambda task, *_: ran.append(task) or "not run")
        run_study(self.study(), tmp_path)
        assert [(t.fields["total_steps"], t.fields.get("num_envs")) for t in ran] == [(60, None), (40, 2)]
        told = json.loads((tmp_path / "study.json").read_bytes())
        assert told["env_fields"]["CliffWalking-v1"]["random"] == QUIET | {"total_steps": 40, "num_envs": 2}
        run_study(self.study(seeds=2), tmp_path)
        assert len(ran) == 2 + 4
        other = {"FrozenLake-v1": {"total_steps": 61}}
        with pytest.raises(UsageError, match="already holds another study"):
            run_study(self.study(env_fields=other), tmp_path)

    def test_extends_one_that_did_not_differ_if_its_runs_stay_as_they_are(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rl_lab.studies.study.run_task", lambda task, *_: "not run")
        run_study(small_study(agents=("random",), seeds=1), tmp_path)
        with pytest.raises(UsageError, match="already holds another study"):
            run_study(self.study(), tmp_path)
        run_study(self.study(env_fields={"CliffWalking-v1": {"total_steps": 40}}), tmp_path)

"""config.json: what is written is read, and what is no description is said in one line."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import (
    RunDescription,
    _without_later,
    describe,
    read_description,
    upgrade_description,
    write_description,
)
from rl_lab.storage import formats
from rl_lab.storage.errors import CheckpointError, FormatTooNew
from rl_lab.types import UsageError
from toys import Identity, problem_on


@dataclass(frozen=True)
class AgentConfig:
    gamma: float = 0.5
    hidden: tuple[int, ...] = (8, 8)


def described(agent_config=AgentConfig(), **fields) -> RunDescription:
    config = RunConfig("CartPole-v1", wandb="disabled", **fields)
    return describe("dqn", agent_config, config, problem_on(Identity))


@pytest.fixture
def folder(tmp_path):
    write_description(tmp_path, described(seed=3, env_kwargs={"sutton_barto_reward": True}))
    return tmp_path


def rewrite(folder, **changes):
    path = folder / "config.json"
    body = json.loads(path.read_bytes()) | changes
    path.write_text(json.dumps({k: v for k, v in body.items() if v != "missing"}))


class TestDescribe:
    def test_decides_what_was_left_open(self):
        found = described()
        config = found.config
        assert (config.device, config.preprocess, config.wandb) == ("cpu", "none", "disabled")
        assert (config.group, found.eval_gamma) == ("CartPole-v1-dqn", 0.5)

    def test_keeps_what_was_asked_for(self):
        found = described(eval_gamma=0.7, group="mine", preprocess="none")
        assert (found.eval_gamma, found.config.group, found.config.preprocess) == (0.7, "mine", "none")

    def test_agent_without_a_discount_is_evaluated_with_a_common_one(self):
        bare = dataclasses.make_dataclass("Bare", [])()
        assert described(bare).eval_gamma == 0.99

    @pytest.mark.parametrize(
        "fields", [{"run_dir": "elsewhere"}, {"group": "other"}, {"init_from": "a"}, {"dataset": "b"}]
    )
    def test_hash_leaves_out_what_changes_no_result(self, fields):
        assert described(**fields).config_sha256 == described().config_sha256

    @pytest.mark.parametrize("fields", [{"seed": 1}, {"eval_gamma": 0.4}, {"agent_config": AgentConfig(0.4)}])
    def test_hash_follows_what_does(self, fields):
        assert described(**fields).config_sha256 != described().config_sha256

    def test_fields_that_came_later_enter_it_once_they_are_changed(self):
        assert described(eval_total_steps=None).config_sha256 == described().config_sha256
        assert described(eval_total_steps=9).config_sha256 != described().config_sha256
        hashed = _without_later(described().to_json())
        assert "eval_max_steps" in hashed
        assert "eval_total_steps" not in hashed
        assert _without_later({"channels": "auto", "gamma": 1}) == {"gamma": 1}
        assert _without_later({"channels": "first"}) == {"channels": "first"}

    def test_hash_does_not_follow_the_format(self, monkeypatch):
        before = described().config_sha256
        monkeypatch.setattr(formats, "FORMAT", formats.FORMAT + 1)
        assert described().config_sha256 == before


class TestReading:
    def test_returns_what_was_written(self, folder):
        found = read_description(folder)
        expected = described(seed=3, env_kwargs={"sutton_barto_reward": True})
        assert found == dataclasses.replace(expected, fields={"gamma": 0.5, "hidden": [8, 8]})
        assert found.all_fields["seed"] == 3
        assert found.all_fields["gamma"] == 0.5

    def test_fields_of_later_versions_have_their_defaults(self, folder):
        rewrite(folder, pictures="missing", stop_min_delta="missing", unknown=4)
        found = read_description(folder).config
        assert (found.pictures, found.stop_min_delta) == (True, 0.0)

    def test_environments_of_format_1_lie_beneath_rl_lab(self, folder):
        for old, new in {
            "envs:lab/GridWorld-v0": "rl_lab.envs:lab/GridWorld-v0",
            "envs.gridworld:lab/GridWorld-v0": "rl_lab.envs.gridworld:lab/GridWorld-v0",
            "envs:mine/World-v0": "envs:mine/World-v0",
            "envs:World-v0": "envs:World-v0",
            "envs_of_mine:Arms-v0": "envs_of_mine:Arms-v0",
            "lab/GridWorld-v0": "lab/GridWorld-v0",
            "rl_lab.envs:lab/GridWorld-v0": "rl_lab.envs:lab/GridWorld-v0",
        }.items():
            rewrite(folder, format=1, env_id=old)
            assert read_description(folder).config.env_id == new

    def test_ids_of_format_2_are_left_as_they_are(self, folder):
        rewrite(folder, env_id="envs:Theirs-v0")
        assert read_description(folder).config.env_id == "envs:Theirs-v0"

    def test_newer_format_is_named(self, folder):
        rewrite(folder, format=formats.FORMAT + 1)
        with pytest.raises(FormatTooNew, match=r"config\.json has format 3") as refused:
            read_description(folder)
        assert isinstance(refused.value, UsageError)
        assert isinstance(refused.value, CheckpointError)

    def test_folder_without_a_run_is_named(self, tmp_path):
        with pytest.raises(UsageError, match="holds no run"):
            read_description(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"agent": "missing"}, "config.json lacks agent"),
            ({"config_sha256": "missing", "eval_gamma": "missing"}, "lacks eval_gamma, config_sha256"),
            ({"env_id": "missing"}, "damaged"),
            ({"format": 1, "env_id": 3}, "damaged: env_id must be text, got 3"),
            ({"format": 1, "env_id": None}, "damaged: env_id must be text, got None"),
            ({"format": "missing"}, "damaged"),
            ({"format": 0}, "damaged"),
            ({"format": "2"}, "damaged"),
            ({"fields": 7}, "damaged"),
            ({"agent": ["dqn"]}, r"damaged: agent must be str, got \['dqn'\]"),
            ({"agent": None}, "damaged"),
            ({"versions": 3}, "damaged"),
            ({"life_loss_terminates": 0}, "life_loss_terminates must be true or false, got 0"),
            ({"total_steps": True}, "total_steps must be a whole number, got True"),
            ({"env_kwargs": []}, "env_kwargs must be names with values"),
            ({"seed": -1}, "config.json seed must be at least 0, got -1"),
            ({"total_steps": "many"}, "total_steps must be a whole number"),
        ],
    )
    def test_what_is_no_description_is_said_in_one_line(self, folder, changes, says):
        rewrite(folder, **({"format": 1} if changes.get("env_id") else {}) | changes)
        with pytest.raises(UsageError, match=says) as refused:
            read_description(folder)
        assert str(folder / "config.json") in str(refused.value)
        assert "\n" not in str(refused.value)


class TestUpgrading:
    def test_rewrites_an_older_one_and_nothing_but_what_has_changed(self, folder):
        before = json.loads((folder / "config.json").read_bytes())
        rewrite(folder, format=1, env_id="envs:lab/GridWorld-v0")
        upgrade_description(folder)
        assert json.loads((folder / "config.json").read_bytes()) == before | {
            "env_id": "rl_lab.envs:lab/GridWorld-v0"
        }

    def test_leaves_a_current_one_as_it_is(self, folder):
        path = folder / "config.json"
        path.write_text(path.read_text() + "\n")
        before = path.read_bytes()
        upgrade_description(folder)
        assert path.read_bytes() == before

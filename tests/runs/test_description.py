"""config.json: what is written is read, and what is no description is said in one line."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import (
    HASHED,
    LATER_OF_AGENTS,
    RunDescription,
    config_hash,
    describe,
    read_description,
    upgrade_description,
    write_description,
)
from rl_lab.runs.migrations import migrate_config
from rl_lab.runs.scrubbing import REMOVED
from rl_lab.storage import formats
from rl_lab.storage.errors import CheckpointError, FormatTooNew
from rl_lab.training.registry import config_of
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import UsageError
from toys import Identity, problem_on


@dataclass(frozen=True)
class AgentConfig:
    gamma: float = 0.5
    hidden: tuple[int, ...] = (8, 8)


@dataclass(frozen=True)
class NetworkConfig:
    channels: str = "auto"
    image_scale: str = "bound"
    one_hot_most: int = 20_000
    encoder: str = "auto"
    hidden: tuple[int, ...] = (8,)


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
        assert described(wrappers=("a:B",)).config_sha256 != described().config_sha256
        without = described()
        body = {name: value for name, value in without.to_json().items() if name != "wrappers"}
        assert config_hash(RunDescription.from_json(body)) == without.config_sha256

    def test_hash_tells_how_images_are_read_from_how_they_were_before(self):
        """Bytes were divided by 255, the smaller axis held the channels, and evaluations had no limit in all."""
        before = NetworkConfig("smaller", "byte", 2**63 - 1)
        hashes = {
            described(config, eval_total_steps=steps).config_sha256
            for config in (
                before,
                NetworkConfig(),
                NetworkConfig("smaller"),
                NetworkConfig("smaller", "byte"),
            )
            for steps in (None, 7, 20 * 10_000)
        }
        assert len(hashes) == 12
        old = described(before, eval_total_steps=20 * 10_000)
        body = old.to_json() | {"format": 2}
        del body["eval_total_steps"]
        body["fields"] = {name: body["fields"][name] for name in ("encoder", "hidden")}
        found = RunDescription.from_json(migrate_config(json.loads(json.dumps(body)), Path("config.json")))
        assert config_hash(found) == old.config_sha256

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

    OLD = {"encoder": "auto", "hidden": [8]}  # noqa: RUF012  # of an agent with a network
    READ_BEFORE = {"channels": "smaller", "image_scale": "byte", "one_hot_most": 2**63 - 1}  # noqa: RUF012

    @pytest.mark.parametrize("number", [1, 2])
    @pytest.mark.parametrize(
        ("fields", "body", "added"),
        [
            (OLD, {"eval_total_steps": "missing"}, READ_BEFORE),
            # builds that had the one field and not yet the other
            (OLD | {"channels": "auto"}, {"eval_total_steps": "missing"}, {"one_hot_most": 2**63 - 1}),
            (OLD | {"channels": "auto"}, {"eval_total_steps": None}, {}),
            ({"gamma": 0.5}, {"eval_total_steps": "missing"}, {}),
        ],
    )
    def test_agents_of_older_formats_read_observations_as_they_did(self, folder, number, fields, body, added):
        rewrite(folder, format=number, fields=fields, eval_episodes=3, eval_max_steps=50, **body)
        found = read_description(folder)
        assert found.fields == fields | added
        assert found.config.eval_total_steps == (150 if body["eval_total_steps"] == "missing" else None)

    def test_current_format_is_read_as_it_is(self, folder):
        rewrite(folder, fields=self.OLD, eval_total_steps="missing")
        assert read_description(folder).fields == self.OLD

    def test_newer_format_is_named(self, folder):
        rewrite(folder, format=formats.FORMAT + 1)
        with pytest.raises(FormatTooNew, match=r"config\.json has format 4") as refused:
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
            ({"format": 2, "fields": 7}, "damaged: fields must be names with values, got 7"),
            ({"format": 2, "fields": "missing"}, "config.json lacks fields"),
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

    def test_removes_secrets_that_an_older_version_stored(self, folder):
        rewrite(folder, format=2, env_kwargs={"token": "hush-hush-hush"}, wandb_notes="token=hush-hush")
        upgrade_description(folder)
        body = json.loads((folder / "config.json").read_bytes())
        assert body["format"] == formats.FORMAT
        assert body["env_kwargs"] == {"token": REMOVED}
        assert body["wandb_notes"] == f"token={REMOVED}"

    def test_leaves_a_current_one_as_it_is(self, folder):
        path = folder / "config.json"
        path.write_text(path.read_text() + "\n")
        before = path.read_bytes()
        upgrade_description(folder)
        assert path.read_bytes() == before


@pytest.mark.parametrize("agent", ["dqn", "ppo", "q-learning", "sb3-dqn"])
def test_what_later_fields_of_agents_stand_for_are_their_defaults(agent):
    """So a new run has the hash that a run of the same fields had before there were more."""
    defaults = {field.name: field.default for field in dataclasses.fields(config_of(agent))}
    known = [later for later in LATER_OF_AGENTS if next(iter(later)) in defaults]
    assert known
    for later in known:
        new = {name: value for name, value in later.items() if value is not HASHED}
        assert new == {name: defaults[name] for name in new}


@pytest.mark.parametrize(
    ("agent", "is_hashed"), [("dqn", True), ("pqn", True), ("ppo", False), ("a2c", False)]
)
def test_unclipped_rewards_are_hashed_where_they_could_always_be_clipped(agent, is_hashed):
    """Policy gradients got the bound later; the fields that they had before are hashed as ever."""
    fields = {"env_id": "CartPole-v1", "total_steps": 1000}
    found = [config_hash(description_of(agent, fields, without)) for without in ((), ("reward_clip",))]
    assert (found[0] != found[1]) == is_hashed
    if not is_hashed:
        assert config_hash(description_of(agent, fields, ("log_std_initial",))) != found[0]


@pytest.mark.parametrize("agent", ["dqn", "c51", "pqn", "ppo", "a2c", "clone"])
def test_adams_epsilon_is_hashed_where_it_is_given(agent):
    fields = {"env_id": "CartPole-v1", "total_steps": 1000, "optimiser": "adam"}
    given = fields | {"adam_epsilon": 1e-3}
    without, default, other = (
        config_hash(description_of(agent, fields, names))
        for fields, names in ((fields, ("adam_epsilon",)), (fields, ()), (given, ()))
    )
    assert without == default != other


def description_of(agent, fields, without):
    """Describe a run; its agent's fields lack those named in `without`."""
    learner, config = configure(agent, fields)
    described = describe(agent, learner.config, config, problem_of(config, learner))
    left = {name: value for name, value in described.fields.items() if name not in without}
    return dataclasses.replace(described, fields=left)

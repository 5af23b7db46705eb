"""Hyperparameters side by side: what differs is marked, and periods are compared in transitions."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO

from rl_lab.runs.config import RunConfig
from rl_lab.studies.hyperparameters import hyperparameters_side_by_side
from rl_lab.studies.results import RunResults, StudyResults
from rl_lab.training.registry import config_of, make_config
from rl_lab.updates.optimisers import OPTIMISERS, POLICY_OPTIMISERS

ENV = "CartPole-v1"
NAMES = {
    "target_kl": "target_kl",
    "clip_range_vf": "clip_range_value",
    "normalize_advantage": "normalise_advantages",
}


def study_of(fields_of, env_ids=(ENV,), **shared):
    """A study whose runs have begun with these fields, by agent; {} for an agent that hasn't."""
    runs = {}
    for env_id in env_ids:
        for agent, fields in fields_of.items():
            of_run = {k: v for k, v in fields.items() if k in {f.name for f in dataclasses.fields(RunConfig)}}
            own = {k: v for k, v in fields.items() if k not in of_run}
            config = dataclasses.asdict(RunConfig(env_id=env_id, **shared | of_run))
            config |= {"agent": agent, "fields": dataclasses.asdict(make_config(agent, **own))}
            runs[env_id, agent] = (
                RunResults(agent, env_id, 0, Path("gone"), config if fields else {}, None, ()),
            )
    return StudyResults(Path("out"), tuple(env_ids), tuple(fields_of), (0,), 1, runs)


def rows_of(*args, **shared):
    return {row["name"]: row for row in hyperparameters_side_by_side(study_of(*args, **shared))}


@pytest.mark.parametrize(
    ("agent", "fields", "num_envs", "transitions"),
    [
        # SB3 gets train_freq 2 vector steps and target_update_interval 40, which it divides by 4 environments.
        (
            "sb3-dqn",
            {"train_period_env_steps": 8, "target_period_env_steps": 40, "learning_starts_env_steps": 30},
            4,
            {"train_period_env_steps": 8, "target_period_env_steps": 40, "learning_starts_env_steps": 30},
        ),
        ("sb3-dqn", {"epsilon_fraction": 0.25}, 1, {"epsilon_fraction": 250}),
        ("sb3-qrdqn", {"target_period_env_steps": 1}, 1, {"target_period_env_steps": 1}),
        (
            "dqn",
            {"train_period_env_steps": 8},
            4,
            {"train_period_env_steps": 8, "target_period_env_steps": 500},
        ),
        # 100 gradient steps, 2 of which are taken every 4 transitions
        (
            "dqn",
            {"target_period_updates": 100, "gradient_steps_per_update": 2, "train_period_env_steps": 4},
            1,
            {"target_period_env_steps": 200},
        ),
        ("dqn", {"epsilon_fraction": 0.5, "n_steps": 3}, 1, {"epsilon_fraction": 500, "n_steps": 3}),
        ("ppo", {"n_steps": 32}, 8, {"n_steps": 256}),
        ("sb3-ppo", {"n_steps": 64}, 4, {"n_steps": 256}),
        ("sb3-a2c", {}, 8, {"n_steps": 40}),
        ("sb3-recurrent-ppo", {}, 2, {"n_steps": 256}),
        ("q-learning", {"epsilon_fraction": 0.25}, 1, {"epsilon_fraction": 250}),
        ("dqn", {"epsilon_fraction": 0.5, "horizon_steps": 400}, 1, {"epsilon_fraction": 200}),
        ("random", {}, 1, {}),
    ],
)
def test_periods_are_told_in_transitions(agent, fields, num_envs, transitions):
    rows = rows_of({agent: fields | {"num_envs": num_envs}}, total_steps=1000)
    found = {name: row["transitions"][agent] for name, row in rows.items() if row["transitions"]}
    assert {name: found[name] for name in transitions} == transitions
    assert found["eval_every_steps"] == 100  # a tenth of the budget, as nothing else was said


def test_the_target_period_that_sb3_rounds_is_told_as_it_rounds_it():
    config = make_config("sb3-dqn", target_period_env_steps=10)
    assert config.transitions(4, 100)["target_period_env_steps"] == 8  # every 10 // 4 vector steps of 4


def test_rollouts_of_equal_size_are_the_same_however_they_are_counted():
    rows = rows_of({"ppo": {"n_steps": 32, "num_envs": 8}, "sb3-ppo": {"n_steps": 64, "num_envs": 4}})
    assert rows["n_steps"]["values"] == {"ppo": 32, "sb3-ppo": 64}
    assert rows["n_steps"]["transitions"] == {"ppo": 256, "sb3-ppo": 256}
    assert rows["n_steps"]["mark"] == "same"
    assert rows["num_envs"]["mark"] == "differs"


def test_differences_are_marked_and_what_all_share_comes_first():
    found = hyperparameters_side_by_side(
        study_of({"dqn": {"gamma": 0.9}, "sb3-dqn": {"gamma": 0.99, "seed": 4}})
    )
    rows = {row["name"]: row for row in found}
    assert rows["gamma"]["mark"] == "differs"
    assert rows["gamma"]["values"] == {"dqn": 0.9, "sb3-dqn": 0.99}
    assert rows["total_steps"]["mark"] == "same"
    assert rows["compile"] == {
        "env_id": ENV, "name": "compile", "values": {"dqn": "auto"}, "fixed": [], "transitions": {}, "mark": "alone",
    }  # fmt: skip
    assert not {"seed", "agent", "fields", "wandb", "config_sha256"} & rows.keys()
    marks = [row["mark"] == "alone" for row in found]
    assert marks == sorted(marks)


def test_what_an_algorithm_always_does_stands_beside_the_fields_of_others():
    rows = rows_of({"dqn": {"double": True}, "sb3-dqn": {"num_envs": 1}})
    assert rows["double"]["values"] == {"dqn": True, "sb3-dqn": False}
    assert (rows["double"]["mark"], rows["double"]["fixed"]) == ("differs", ["sb3-dqn"])
    assert (rows["loss"]["mark"], rows["loss"]["fixed"]) == ("same", ["sb3-dqn"])


@pytest.mark.parametrize(("decay", "final"), [(False, None), (True, 0.0)])
def test_fields_that_go_by_another_name_in_the_lab_stand_in_its_rows(decay, final):
    rows = rows_of(
        {
            "qr-dqn": {"quantiles": 170, "learning_rate_final": 0.0},
            "sb3-qrdqn": {"n_quantiles": 170, "linear_decay": decay},
        }
    )
    assert rows["quantiles"]["values"] == {"qr-dqn": 170, "sb3-qrdqn": 170}
    assert rows["quantiles"]["mark"] == "same"
    assert rows["learning_rate_final"]["values"] == {"qr-dqn": 0.0, "sb3-qrdqn": final}
    assert rows["learning_rate_final"]["mark"] == ("same" if decay else "differs")
    assert not {"n_quantiles", "linear_decay"} & rows.keys()


def test_agents_and_environments_that_have_not_begun_are_left_out():
    study = study_of({"dqn": {"gamma": 0.9}, "random": {}}, env_ids=(ENV, "Acrobot-v1"))
    rows = hyperparameters_side_by_side(study, "Acrobot-v1")
    assert {row["env_id"] for row in rows} == {"Acrobot-v1"}
    assert all(set(row["values"]) == {"dqn"} for row in rows)
    assert len(hyperparameters_side_by_side(study)) == 2 * len(rows)


def test_an_agent_that_is_not_installed_here_shows_its_values():
    study = study_of({"q-learning": {"gamma": 0.5}})
    (run,) = study.runs[ENV, "q-learning"]
    moved = dataclasses.replace(run, agent="of-elsewhere")
    study = dataclasses.replace(study, agents=("of-elsewhere",), runs={(ENV, "of-elsewhere"): (moved,)})
    rows = {row["name"]: row for row in hyperparameters_side_by_side(study)}
    assert rows["gamma"]["values"] == {"of-elsewhere": 0.5}


def epsilon_of(model) -> float:
    return model.policy.optimizer.param_groups[0]["eps"]


class TestFixed:
    """What SB3's configs say of SB3 is what its signatures say."""

    @pytest.mark.parametrize(
        ("agent", "algorithm"),
        [
            ("sb3-dqn", DQN),
            ("sb3-ppo", PPO),
            ("sb3-a2c", A2C),
            ("sb3-qrdqn", QRDQN),
            ("sb3-recurrent-ppo", RecurrentPPO),
        ],
    )
    def test_agrees_with_sb3(self, agent, algorithm):
        fixed, given = config_of(agent).FIXED, inspect.signature(algorithm.__init__).parameters
        for theirs, ours in NAMES.items():
            if theirs in given:
                assert fixed[ours] == given[theirs].default, ours
        alias = next(name for name in algorithm.policy_aliases if name.startswith("Mlp"))
        of_policy = inspect.signature(algorithm.policy_aliases[alias].__init__).parameters
        if "activation" in fixed:
            assert of_policy["activation_fn"].default.__name__.lower() == fixed["activation"]
        if "initialisation" in fixed and "ortho_init" in of_policy:
            assert (fixed["initialisation"] == "orthogonal") == of_policy["ortho_init"].default
        assert of_policy["optimizer_class"].default.__name__.lower() == "adam"
        rms = given.get("use_rms_prop")
        assert fixed["optimiser"] == ("rmsprop-torch" if rms is not None and rms.default else "adam")

    @pytest.mark.parametrize(
        ("agent", "algorithm", "own"),
        [("dqn", DQN, OPTIMISERS["adam"]), ("ppo", PPO, POLICY_OPTIMISERS["adam"])],
    )
    def test_adams_epsilon_is_the_labs_where_none_is_given(self, agent, algorithm, own):
        row = rows_of({agent: {"gamma": 0.9}, f"sb3-{agent}": {"gamma": 0.9}})["adam_epsilon"]
        assert (row["mark"], row["fixed"]) == ("same", [f"sb3-{agent}"])
        assert epsilon_of(algorithm("MlpPolicy", ENV)) == inspect.signature(own).parameters["epsilon"].default

    def test_that_of_sb3s_qr_dqn_goes_with_the_size_of_batches(self):
        row = rows_of({"qr-dqn": {"gamma": 0.9}, "sb3-qrdqn": {"batch_size": 16}})["adam_epsilon"]
        assert row["mark"] == "differs"
        assert row["values"]["sb3-qrdqn"] == epsilon_of(QRDQN("MlpPolicy", ENV, batch_size=16)) == 0.01 / 16

    def test_no_field_of_a_config_is_fixed_as_well(self):
        for agent in ("sb3-dqn", "sb3-ppo", "sb3-a2c", "sb3-qrdqn", "sb3-recurrent-ppo"):
            config = config_of(agent)
            own = {f.name for f in dataclasses.fields(config)}
            assert not (own & set(config.FIXED)) - {"n_steps"}, agent

"""Presets for Atari hold what their sources say; the tables are the sources' own."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from stable_baselines3 import DQN, PPO

from rl_lab.environments.protocols import PROTOCOLS, SIDE, STACK, protocol_of
from rl_lab.training.registry import make_config, preset_fields

# Dopamine ---------------------------------------------------------------------------------------------
# dopamine/jax/agents/ of https://github.com/google/dopamine at 9f616b924451cc5c23800c49e8907ebc67f8498b: dqn/configs/
# dqn.gin, rainbow/configs/c51.gin, rainbow/configs/rainbow.gin. Steps are the agent's.
SHARED_GIN = {
    "gamma": 0.99, "min_replay_history": 20_000, "update_period": 4, "target_update_period": 8_000,
    "epsilon_train": 0.01, "epsilon_decay_period": 250_000, "sticky_actions": True, "num_iterations": 200,
    "training_steps": 250_000, "max_steps_per_episode": 27_000, "max_capacity": 1_000_000, "batch_size": 32,
}  # fmt: skip
GIN = {
    ("dqn", "dopamine"): {"update_horizon": 1, "learning_rate": 6.25e-5, "eps": 1.5e-4},
    ("c51", "dopamine"): {
        "update_horizon": 1, "learning_rate": 0.00025, "eps": 0.0003125, "num_atoms": 51, "vmax": 10.0,
    },
    ("dqn", "rainbow:dopamine"): {
        "update_horizon": 3, "learning_rate": 0.0000625, "eps": 0.00015, "num_atoms": 51, "vmax": 10.0,
        "replay_scheme": "prioritized",
    },
}  # fmt: skip


def agent_fields(agent, preset):
    """Return the agent's own fields under a preset, defaults included, and all that the preset says."""
    fields = preset_fields(agent, preset)
    names = {f.name for f in dataclasses.fields(make_config(agent))}
    return dataclasses.asdict(make_config(agent, **{n: v for n, v in fields.items() if n in names})), fields


@pytest.mark.parametrize(("agent", "preset"), GIN)
def test_dopamine_is_its_files(agent, preset):
    said = SHARED_GIN | GIN[agent, preset]
    got, fields = agent_fields(agent, preset)
    assert got["gamma"] == said["gamma"]
    assert got["learning_starts_env_steps"] == said["min_replay_history"]
    assert got["train_period_env_steps"] == said["update_period"]
    assert got["target_period_env_steps"] == said["target_update_period"]
    assert (got["replay_capacity"], got["batch_size"]) == (said["max_capacity"], said["batch_size"])
    assert (got["n_steps"], got["learning_rate"]) == (said["update_horizon"], said["learning_rate"])
    budget = said["num_iterations"] * said["training_steps"]
    assert fields["total_steps"] == budget
    assert fields["eval_max_steps"] == said["max_steps_per_episode"]
    assert got["epsilon_final"] == said["epsilon_train"]
    assert got["epsilon_fraction"] * budget == said["epsilon_decay_period"]
    assert got["epsilon_waits"]  # linearly_decaying_epsilon counts from min_replay_history
    # run_experiment.py clips rewards to [-1, 1], networks.py has the layers of Nature, and nothing clips gradients
    assert (got["reward_clip"], got["encoder"], got["hidden"]) == (1.0, "cnn", (512,))
    assert (got["max_grad_norm"], got["optimiser"], got["adam_epsilon"]) == (None, "adam", said["eps"])
    assert got["initialisation"] == "default"  # torch's; networks.py has Flax's variance scaling
    if "num_atoms" in said:
        assert got["distribution"] == "categorical"
        assert (got["atoms"], -got["v_min"], got["v_max"]) == (said["num_atoms"], said["vmax"], said["vmax"])
    else:
        assert (got["distribution"], got["loss"]) == ("none", "squared")  # loss_type "mse" of JaxDQNAgent
    assert got["prioritised"] == ("replay_scheme" in said)
    if got["prioritised"]:
        # sqrt of the priorities, and weights of 1 / sqrt(probability)
        assert (got["priority_alpha"], got["priority_beta"]) == (0.5, 0.5)
    assert {got["double"], got["dueling"], got["noisy"]} == {False}
    assert "life_loss_terminates" not in fields  # atari_lib.py: terminal_on_life_loss False
    assert fields["preprocess"] == "dopamine"


def test_dopamines_games_are_those_of_its_preprocessing():
    """atari_lib.py: NoFrameskip-v0 has sticky actions of 0.25 and the game's own actions; frames are pooled."""
    protocol = PROTOCOLS["dopamine"]
    assert (protocol.repeat_action_probability, protocol.full_action_space) == (0.25, False)
    assert (protocol.noop_max, protocol.frameskip, protocol.maxpool) == (0, 4, True)
    assert protocol.max_num_frames_per_episode == 4 * SHARED_GIN["max_steps_per_episode"]


def test_machados_games_are_those_of_the_papers_table():
    """Machado et al. (2018), table 5: stickiness 0.25, all 18 actions, 5 frames skipped; here 4, as is usual now."""
    protocol = PROTOCOLS["machado"]
    assert (protocol.repeat_action_probability, protocol.full_action_space, protocol.noop_max) == (
        0.25,
        True,
        0,
    )


# rl-baselines3-zoo ------------------------------------------------------------------------------------
# hyperparams/dqn.yml and ppo.yml, under "atari", of the same commits as in test_presets.py; with AtariWrapper, four
# frames stacked, and CnnPolicy.
DQN_ATARI = {
    "n_timesteps": 1e7, "buffer_size": 100_000, "learning_rate": 1e-4, "batch_size": 32, "learning_starts": 100_000,
    "target_update_interval": 1000, "train_freq": 4, "gradient_steps": 1, "exploration_fraction": 0.1,
    "exploration_final_eps": 0.01,
}  # fmt: skip
PPO_ATARI = {
    "n_envs": 8, "n_steps": 128, "n_epochs": 4, "batch_size": 256, "n_timesteps": 1e7, "learning_rate": "lin_2.5e-4",
    "clip_range": "lin_0.1", "vf_coef": 0.5, "ent_coef": 0.01,
}  # fmt: skip


def test_the_zoos_dqn_is_its_file():
    got, fields = agent_fields("dqn", "zoo:atari")
    names = {
        "buffer_size": "replay_capacity", "learning_rate": "learning_rate", "batch_size": "batch_size",
        "learning_starts": "learning_starts_env_steps", "target_update_interval": "target_period_env_steps",
        "train_freq": "train_period_env_steps", "gradient_steps": "gradient_steps_per_update",
        "exploration_fraction": "epsilon_fraction", "exploration_final_eps": "epsilon_final",
    }  # fmt: skip
    assert {name: got[ours] for name, ours in names.items()} | {
        "n_timesteps": fields["total_steps"]
    } == DQN_ATARI
    defaults = inspect.signature(DQN.__init__).parameters
    assert got["gamma"] == defaults["gamma"].default
    assert got["max_grad_norm"] == defaults["max_grad_norm"].default
    assert (got["loss"], got["optimiser"]) == ("huber", "adam")
    require_atari_wrapper(fields, got)


def test_the_zoos_ppo_is_its_file():
    got, fields = agent_fields("ppo", "zoo:atari")
    said = {name: value for name, value in PPO_ATARI.items() if name not in ("learning_rate", "clip_range")}
    assert {"n_envs": fields["num_envs"], "n_timesteps": fields["total_steps"]} | {
        name: got[name] for name in said if not name.startswith(("n_envs", "n_timesteps"))
    } == said
    assert got["linear_decay"]  # of both
    assert (f"lin_{got['learning_rate']:g}", f"lin_{got['clip_range']:g}") == ("lin_0.00025", "lin_0.1")
    assert float(PPO_ATARI["learning_rate"].removeprefix("lin_")) == got["learning_rate"]
    defaults = inspect.signature(PPO.__init__).parameters
    for name in ("gamma", "gae_lambda", "max_grad_norm"):
        assert got[name] == defaults[name].default
    # CnnPolicy: one network of convolutions and 512 units with relu for both
    assert (got["share_encoder"], got["activation"]) == (True, "relu")
    require_atari_wrapper(fields, got)


def require_atari_wrapper(fields, got):
    """Hold a preset to what AtariWrapper does with its defaults."""
    protocol = protocol_of(fields["preprocess"], fields["env_kwargs"])
    assert (protocol.noop_max, protocol.frameskip, protocol.maxpool) == (30, 4, True)
    assert protocol.repeat_action_probability == 0.0
    assert protocol.use_fire_reset
    assert fields["eval_max_steps"] == 27_000
    assert fields["life_loss_terminates"]
    assert (got["reward_clip"], got["encoder"], got["hidden"]) == (1.0, "cnn", (512,))


# PQN --------------------------------------------------------------------------------------------------
# purejaxql/config/alg/pqn_atari.yaml of Gallici et al. (2025) at 0436c80a95e685ccc30c06a4473f9071a42d12aa
PQN_ATARI = {
    "TOTAL_TIMESTEPS": 1e7, "TOTAL_TIMESTEPS_DECAY": 1e7, "NUM_ENVS": 128, "NUM_STEPS": 32, "EPS_START": 1.0,
    "EPS_FINISH": 0.001, "EPS_DECAY": 0.1, "NUM_EPOCHS": 2, "NUM_MINIBATCHES": 32, "NORM_TYPE": "layer_norm",
    "LR": 0.00025, "MAX_GRAD_NORM": 10, "LR_LINEAR_DECAY": False, "GAMMA": 0.99, "LAMBDA": 0.65,
}  # fmt: skip
PQN_ENV = {
    "episodic_life": True, "reward_clip": True, "repeat_action_probability": 0.0, "frame_skip": 4, "noop_max": 30,
}  # fmt: skip
# what EnvPool adds where a file doesn't say it: DefaultConfig of envpool/atari/atari_env.h
ENVPOOL = {"use_fire_reset": True, "full_action_space": False, "stack_num": 4, "img_height": 84}


def test_pqn_is_the_authors_file_and_network():
    got, fields = agent_fields("pqn", "atari")
    assert fields["total_steps"] == PQN_ATARI["TOTAL_TIMESTEPS"] == PQN_ATARI["TOTAL_TIMESTEPS_DECAY"]
    assert {
        "NUM_ENVS": fields["num_envs"], "NUM_STEPS": got["n_steps"], "EPS_START": got["epsilon_initial"],
        "EPS_FINISH": got["epsilon_final"], "EPS_DECAY": got["epsilon_fraction"], "NUM_EPOCHS": got["n_epochs"],
        "NUM_MINIBATCHES": fields["num_envs"] * got["n_steps"] // got["batch_size"], "LR": got["learning_rate"],
        "MAX_GRAD_NORM": got["max_grad_norm"], "GAMMA": got["gamma"], "LAMBDA": got["q_lambda"],
    }.items() <= PQN_ATARI.items()  # fmt: skip
    assert got["learning_rate_final"] is None
    # pqn_atari.py: Nature's convolutions and 512 units, all normalised and begun by he_normal; radam
    assert (got["encoder"], got["hidden"], got["image_layer_norm"]) == ("cnn", (512,), True)
    assert (got["layer_norm"], got["initialisation"], got["optimiser"]) == (True, "kaiming", "radam")
    protocol = protocol_of(fields["preprocess"], fields.get("env_kwargs", {}))
    assert protocol.repeat_action_probability == PQN_ENV["repeat_action_probability"]
    assert (protocol.frameskip, protocol.noop_max) == (PQN_ENV["frame_skip"], PQN_ENV["noop_max"])
    assert protocol.use_fire_reset == ENVPOOL["use_fire_reset"]
    assert protocol.full_action_space == ENVPOOL["full_action_space"]
    assert (ENVPOOL["stack_num"], ENVPOOL["img_height"]) == (STACK, SIDE)
    assert fields["life_loss_terminates"] == PQN_ENV["episodic_life"]
    assert fields["eval_max_steps"] == 27_000  # EnvPool's max_episode_steps
    assert (got["reward_clip"] == 1.0) == PQN_ENV["reward_clip"]


def test_pqns_defaults_differ_from_the_authors_in_what_its_config_names():
    defaults, got = make_config("pqn"), agent_fields("pqn", "atari")[0]
    differ = {name for name, value in got.items() if getattr(defaults, name) != value}
    assert differ == set(re.findall(r"`(\w+)`", type(defaults).__doc__))

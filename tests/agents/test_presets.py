"""Every preset holds what its source says. The tables are the sources' own, so that a slip in presets.yaml fails."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import pytest
from sb3_contrib import QRDQN, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from whole_presets import whole

from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, config_of, preset_fields, presets_of

ATARI = {
    ("dqn", "dopamine"), ("dqn", "rainbow:dopamine"), ("c51", "dopamine"), ("dqn", "zoo:atari"), ("ppo", "zoo:atari"),
    ("pqn", "atari"),
}  # fmt: skip
ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "scripts" / "results"

# rl-baselines3-zoo ------------------------------------------------------------------------------------
# https://github.com/DLR-RM/rl-baselines3-zoo, hyperparams/dqn.yml at ce95481b041fe5314c1b2f1a53940d169b9253fc. Older
# files have other numbers, such as a target period of 5000 for MountainCar. LunarLander was still -v2 there.
DQN_YML = {
    "CartPole-v1": {
        "n_timesteps": 5e4, "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000,
        "learning_starts": 1000, "gamma": 0.99, "target_update_interval": 10, "train_freq": 256,
        "gradient_steps": 128, "exploration_fraction": 0.16, "exploration_final_eps": 0.04, "net_arch": [256, 256],
    },
    "MountainCar-v0": {
        "n_timesteps": 1.2e5, "learning_rate": 4e-3, "batch_size": 128, "buffer_size": 10_000,
        "learning_starts": 1000, "gamma": 0.98, "target_update_interval": 600, "train_freq": 16,
        "gradient_steps": 8, "exploration_fraction": 0.2, "exploration_final_eps": 0.07, "net_arch": [256, 256],
    },
    "LunarLander-v3": {
        "n_timesteps": 1e5, "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000,
        "learning_starts": 0, "gamma": 0.99, "target_update_interval": 250, "train_freq": 4,
        "gradient_steps": -1, "exploration_fraction": 0.12, "exploration_final_eps": 0.1, "net_arch": [256, 256],
    },
    "Acrobot-v1": {
        "n_timesteps": 1e5, "learning_rate": 6.3e-4, "batch_size": 128, "buffer_size": 50_000,
        "learning_starts": 0, "gamma": 0.99, "target_update_interval": 250, "train_freq": 4,
        "gradient_steps": -1, "exploration_fraction": 0.12, "exploration_final_eps": 0.1, "net_arch": [256, 256],
    },
}  # fmt: skip
# hyperparams/ppo.yml at 208b6fdf3a9aa24de44b2e068c6e5f6a07d97fcc; lin_x falls linearly from x to 0.
PPO_YML = {
    "CartPole-v1": {
        "n_envs": 8, "n_timesteps": 1e5, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98,
        "n_epochs": 20, "ent_coef": 0.0, "learning_rate": "lin_0.001", "clip_range": "lin_0.2",
    },
    "LunarLander-v3": {
        "n_envs": 16, "n_timesteps": 1e6, "n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999,
        "n_epochs": 4, "ent_coef": 0.01,
    },
    "Pendulum-v1": {
        "n_envs": 4, "n_timesteps": 1e5, "n_steps": 1024, "gae_lambda": 0.95, "gamma": 0.9, "n_epochs": 10,
        "ent_coef": 0.0, "learning_rate": 1e-3, "clip_range": 0.2, "use_sde": True, "sde_sample_freq": 4,
    },
    "MountainCar-v0": {
        "normalize": True, "n_envs": 16, "n_timesteps": 1e6, "n_steps": 16, "gae_lambda": 0.98, "gamma": 0.99,
        "n_epochs": 4, "ent_coef": 0.0,
    },
    "Acrobot-v1": {
        "normalize": True, "n_envs": 16, "n_timesteps": 1e6, "n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99,
        "n_epochs": 4, "ent_coef": 0.0,
    },
}  # fmt: skip
# hyperparams/qrdqn.yml at c8cff9f143f2d6d3fe82d26bceafa3b1a5297cab. LunarLander was still -v2 there.
QRDQN_YML = {
    "CartPole-v1": DQN_YML["CartPole-v1"] | {"n_quantiles": 10},
    "MountainCar-v0": DQN_YML["MountainCar-v0"] | {"n_quantiles": 25},
    "LunarLander-v3": {
        "n_timesteps": 1e5, "learning_rate": "lin_1.5e-3", "batch_size": 128, "buffer_size": 100_000,
        "learning_starts": 10_000, "gamma": 0.995, "target_update_interval": 1, "train_freq": 256,
        "gradient_steps": -1, "exploration_fraction": 0.24, "exploration_final_eps": 0.18, "net_arch": [256, 256],
        "n_quantiles": 170,
    },
    "Acrobot-v1": DQN_YML["Acrobot-v1"] | {"n_quantiles": 25},
}  # fmt: skip
# hyperparams/ppo_lstm.yml at c94924e5b31bce36920f29d3eb18b975231bdec4
PPO_LSTM_YML = {
    "CartPoleNoVel-v1": PPO_YML["CartPole-v1"] | {
        "normalize": True, "ortho_init": False, "activation_fn": "ReLU", "lstm_hidden_size": 64,
        "enable_critic_lstm": True, "net_arch": [64],
    },
    "Acrobot-v1": PPO_YML["Acrobot-v1"],
}  # fmt: skip
# hyperparams/a2c.yml at c6c209e7d487635f0b835fb916ec4468142b28ff
A2C_YML = {"CartPole-v1": {"n_envs": 8, "n_timesteps": 5e5, "ent_coef": 0.0}}

ZOO = {"dqn": DQN_YML, "sb3-dqn": DQN_YML, "ppo": PPO_YML, "sb3-ppo": PPO_YML, "sb3-a2c": A2C_YML}
ZOO |= {"sb3-qrdqn": QRDQN_YML, "qr-dqn": QRDQN_YML, "sb3-recurrent-ppo": PPO_LSTM_YML}
LEFT_OUT = {"Pendulum-v1": {"use_sde", "sde_sample_freq"}}  # and the page of policy gradients says so
ALGORITHMS = {
    "dqn": DQN,
    "ppo": PPO,
    "a2c": A2C,
    "qrdqn": QRDQN,
    "qr-dqn": QRDQN,
    "recurrent-ppo": RecurrentPPO,
}
NAMES = {  # SB3's and the lab's, where they differ
    "n_timesteps": "total_steps", "n_envs": "num_envs", "net_arch": "hidden", "buffer_size": "replay_capacity",
    "learning_starts": "learning_starts_env_steps", "target_update_interval": "target_period_env_steps",
    "train_freq": "train_period_env_steps", "gradient_steps": "gradient_steps_per_update", "tau": "target_tau",
    "exploration_initial_eps": "epsilon_initial", "exploration_final_eps": "epsilon_final",
    "exploration_fraction": "epsilon_fraction", "clip_range_vf": "clip_range_value",
    "normalize_advantage": "normalise_advantages", "lstm_hidden_size": "memory_size",
    "enable_critic_lstm": "critic_memory",
}  # fmt: skip


def as_the_lab_writes(yml):
    """Return the fields of the lab that mean what a row of the zoo's file (or SB3's defaults) says."""
    out = {NAMES.get(name, name): value for name, value in yml.items()}
    if out.pop("normalize", False):  # VecNormalize, of both
        out |= {"normalise_observations": True, "normalise_rewards": True}
    if "ortho_init" in out:
        out["initialisation"] = "orthogonal" if out.pop("ortho_init") else "default"
    if "activation_fn" in out:
        out["activation"] = out.pop("activation_fn").lower()
    falling = {k: float(v.removeprefix("lin_")) for k, v in out.items() if str(v).startswith("lin_")}
    out |= falling | ({"linear_decay": True} if falling else {})
    if out.get("gradient_steps_per_update") == -1:  # as many as steps were taken
        out["gradient_steps_per_update"] = out["train_period_env_steps"]
    return out | ({"hidden": tuple(out["hidden"])} if "hidden" in out else {})


def as_qr_dqn_writes(fields):
    """Return fields of sb3-qrdqn as the lab's own QR-DQN has them; sb3-contrib sets the epsilon by the batch."""
    names = {"n_quantiles": "quantiles"}
    out = {names.get(name, name): value for name, value in fields.items() if name != "linear_decay"}
    falling = {"learning_rate_final": 0.0} if fields.get("linear_decay") else {}
    return out | falling | {"adam_epsilon": 0.01 / out["batch_size"]}


def defaults_of_sb3(agent):
    """Return what SB3 does where the file is silent, in the lab's fields."""
    signature = inspect.signature(ALGORITHMS[agent.removeprefix("sb3-")].__init__).parameters
    found = as_the_lab_writes({name: p.default for name, p in signature.items()})
    return found | {"hidden": (64, 64), "num_envs": 1, "linear_decay": False}


@pytest.mark.parametrize(("agent", "env_id"), [(agent, env_id) for agent in ZOO for env_id in ZOO[agent]])
def test_the_zoos_are_those_of_its_files(agent, env_id):
    yml = {k: v for k, v in ZOO[agent][env_id].items() if k not in LEFT_OUT.get(env_id, ())}
    said, fields = as_the_lab_writes(yml), preset_fields(agent, f"zoo:{env_id}")
    said = as_qr_dqn_writes(said) if agent == "qr-dqn" else said
    meant, got = defaults_of_sb3(agent) | said, whole(agent, fields)
    assert set(fields) <= set(meant), "a field of which neither the file nor SB3 says anything"
    shared = [name for name in meant if name in got and name not in ("seed", "device")]
    assert {name: got[name] for name in shared} == {name: meant[name] for name in shared}
    assert set(said) <= set(shared)


@pytest.mark.parametrize("env_id", LEFT_OUT)
def test_what_is_left_out_is_said_on_the_page(env_id):
    page = (ROOT / "docs" / "agents" / "policy-gradients.md").read_text(encoding="utf8")
    about = page[page.index("## Presets") : page.index("## Fields of PPO")]
    assert env_id in about
    assert all(f"`{name}: {PPO_YML[env_id][name]}`" in about for name in LEFT_OUT[env_id])


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_the_networks_are_those_of_sb3s_mlp_policy(agent):
    activation = {"dqn": "relu", "ppo": "tanh"}[agent]
    for env_id in ZOO[agent]:
        got = whole(agent, preset_fields(agent, f"zoo:{env_id}"))
        assert (got["encoder"], got["memory"], got["activation"]) == ("auto", "none", activation)
        assert (got.get("loss", "huber"), got["optimiser"]) == ("huber", "adam")


# Our own --------------------------------------------------------------------------------------------
# Their only source is what was measured with them: scripts/results/dqn_recommended.json and memory.json. To change a
# number here is to measure anew.
CORRIDOR = "S..#\n##.#\n...#\n.###\n...G"
RECOMMENDED = {
    ("dqn", "CartPole-v1"): {
        "total_steps": 44_992, "hidden": (128, 128), "layer_norm": True, "double": True, "average_decay": 0.999,
        "n_steps": 3, "learning_rate": 1e-3, "learning_rate_final": 2e-4, "batch_size": 64,
        "replay_capacity": 100_000, "learning_starts_env_steps": 1_000, "gamma": 0.99,
        "target_period_env_steps": 256, "train_period_env_steps": 32, "gradient_steps_per_update": 12,
        "epsilon_fraction": 0.16, "epsilon_final": 0.01,
    },
    ("dqn", "MountainCar-v0"): {
        "total_steps": 120_000, "hidden": (64, 64), "layer_norm": True, "average_decay": 0.999, "n_steps": 5,
        "learning_rate": 1e-3, "learning_rate_final": 0.0, "batch_size": 64, "replay_capacity": 100_000,
        "learning_starts_env_steps": 1_000, "gamma": 0.99, "target_period_env_steps": 512,
        "train_period_env_steps": 32, "gradient_steps_per_update": 16, "epsilon_fraction": 0.2,
        "epsilon_final": 0.05,
    },
    ("dqn", "Acrobot-v1"): as_the_lab_writes(DQN_YML["Acrobot-v1"]),  # "the preset is the zoo's own"
    ("dqn", "LunarLander-v3"): {
        "total_steps": 100_000, "hidden": (256, 256), "layer_norm": True, "dueling": True, "average_decay": 0.999,
        "n_steps": 10, "learning_rate": 1e-3, "learning_rate_final": 0.0, "batch_size": 128,
        "replay_capacity": 100_000, "learning_starts_env_steps": 1_000, "gamma": 0.99,
        "target_period_env_steps": 250, "train_period_env_steps": 16, "gradient_steps_per_update": 8,
        "epsilon_fraction": 0.12, "epsilon_final": 0.1,
    },
    ("dqn", "lab/TMaze-v0"): {
        "total_steps": 20_000, "env_kwargs": {"length": 10}, "num_envs": 4, "hidden": (32,), "memory": "lstm",
        "memory_size": 32, "sequence_length": 16, "sequence_period_steps": 16, "double": True, "dueling": True,
        "prioritised": True, "n_steps": 3, "learning_rate": 4e-3, "learning_rate_final": 0.0, "batch_size": 32,
        "learning_starts_env_steps": 400, "gamma": 0.98, "target_period_env_steps": 200,
        "train_period_env_steps": 4, "epsilon_fraction": 0.3, "epsilon_final": 0.05,
    },
    **{(agent, "MountainCar-v0"): {
        "total_steps": 30_000, "features": "tiles", "tilings": 8, "tiles": (8,), "gamma": 1.0, "learning_rate": 0.3,
        "learning_rate_final": 0.0, "trace_decay": 0.9, "traces": "replacing", "epsilon_initial": 0.0,
        "epsilon_final": 0.0,
    } for agent in ("semi-gradient-sarsa", "semi-gradient-q")},
    **{(agent, "CartPole-v1"): {
        "total_steps": 15_000, "features": "fourier", "fourier_order": 3, "low": (-2.4, -3.0, -0.21, -3.0),
        "high": (2.4, 3.0, 0.21, 3.0), "gamma": 0.99, "learning_rate": 3e-3, "learning_rate_final": 0.0,
        "trace_decay": 0.9, "epsilon_initial": 0.1, "epsilon_final": 0.0,
    } for agent in ("semi-gradient-sarsa", "semi-gradient-q")},
    ("lstd", "MountainCar-v0"): {
        "total_steps": 20_000, "features": "fourier", "fourier_order": 5, "gamma": 0.99, "ridge": 0.1,
        "epsilon_initial": 1.0, "epsilon_final": 0.05, "epsilon_fraction": 0.5,
    },
    **{(agent, "CartPole-v1"): {
        "total_steps": 10_000, "features": "fourier", "fourier_order": 3, "fourier_interactions": 2,
        "low": (-2.4, -3.0, -0.21, -3.0), "high": (2.4, 3.0, 0.21, 3.0), "gamma": 0.95,
        "update_period_env_steps": 1_000, "epsilon_initial": 1.0, "epsilon_final": 0.05, "epsilon_fraction": 0.3,
    } | own for agent, own in (("lstd", {"ridge": 10.0}), ("lspi", {"ridge": 100.0, "max_iterations": 10}))},
    ("pqn", "CartPole-v1"): {
        "total_steps": 98_304, "num_envs": 64, "hidden": (64, 64), "n_steps": 32, "batch_size": 128, "n_epochs": 4,
        "gamma": 0.99, "q_lambda": 0.99, "normalise_rewards": True, "learning_rate": 2e-3,
        "learning_rate_final": 0.0, "epsilon_final": 0.03, "epsilon_fraction": 0.2,
    },
    ("ppo", "lab/CartPolePositions-v0"): {
        "total_steps": 149_504, "num_envs": 8, "n_steps": 128, "hidden": (64,), "activation": "relu",
        "memory": "lstm", "memory_size": 64, "learning_rate": 3e-3, "linear_decay": True, "batch_size": 256,
        "n_epochs": 10, "gae_lambda": 0.9, "gamma": 0.98,
    },
    ("ppo", "lab/FlickeringGridWorld-v0"): {
        "total_steps": 98_304, "env_kwargs": {"map": CORRIDOR}, "num_envs": 8, "n_steps": 64, "encoder": "cnn",
        "hidden": (64,), "activation": "tanh", "initialisation": "orthogonal", "share_encoder": True,
        "memory": "lstm", "memory_size": 64, "learning_rate": 1e-3, "linear_decay": True, "batch_size": 128,
        "n_epochs": 4, "ent_coef": 0.03, "gae_lambda": 0.95, "gamma": 0.99, "target_kl": 0.02,
    },
}  # fmt: skip


@pytest.mark.parametrize(("agent", "env_id"), RECOMMENDED)
def test_our_own_are_those_that_were_measured(agent, env_id):
    expected = RECOMMENDED[agent, env_id] | {"final_policy": "best"}
    assert preset_fields(agent, f"recommended:{env_id}") == expected


@pytest.mark.parametrize("file", ["dqn_recommended.json", "memory.json", "ppo_zoo.json", "dqn_zoo.json"])
def test_results_were_measured_with_the_presets_budget(file):
    for study in json.loads((RESULTS / file).read_bytes())["studies"]:
        agents = {name.split()[0] for name in study["agents"]}
        for fields in (preset_fields(agent, study["preset"]) for agent in agents):
            budget = fields["total_steps"]
            if "total_steps" in study:
                assert study["total_steps"] == budget
            else:  # rounded up to whole rollouts
                rollout = fields["num_envs"] * fields["n_steps"]
                assert study["env_steps"] == -(-budget // rollout) * rollout
            assert study.get("env_kwargs", fields.get("env_kwargs")) == fields.get("env_kwargs")


def test_no_preset_is_without_a_table():
    # test_published_presets.py
    pinned = {("dqn", "nature"), ("dqn", "rainbow"), ("dqn", "rainbow:atari"), ("pqn", "minatar")}
    pinned |= ATARI  # test_atari_presets.py
    pinned |= {(agent, f"recommended:{env_id}") for agent, env_id in RECOMMENDED}
    pinned |= {(agent, f"zoo:{env_id}") for agent in ZOO for env_id in ZOO[agent]}
    assert {(agent, preset) for agent in agent_names() for preset in presets_of(agent)} == pinned


@pytest.mark.parametrize("agent", agent_names())
def test_presets_set_fields_that_there_are(agent):
    known = {f.name for f in (*dataclasses.fields(RunConfig), *dataclasses.fields(config_of(agent)))}
    for fields in presets_of(agent).values():
        assert set(fields) <= known
        whole(agent, fields)

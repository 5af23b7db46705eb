"""Runs with many fields of network and optimiser resume exactly; values that aren't allowed are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rl_lab
from rl_lab.agents.clone import Config as CloneConfig
from rl_lab.agents.dqn import Config as DQNConfig
from rl_lab.agents.policy_gradient import PPOConfig
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.types import UsageError
from runs import asking_to_stop, differences, learn

EARLY = {"learning_starts_env_steps": 8, "batch_size": 8, "train_period_env_steps": 4}


TOOLBOX = {
    "activation": "elu", "layer_norm": True, "dropout": 0.1, "initialisation": "orthogonal", "optimiser": "adamw",
    "learning_rate_final": 1e-4, "learning_rate_decay": "exponential", "warm_up_env_steps": 60,
    "normalise_gradients": True, "max_grad_value": 0.5, "l1": 1e-4, "l2": 1e-4, "weight_decay": 1e-3,
    "average_decay": 0.9, "normalise_observations": True, "normalise_rewards": True, "hidden": (8,),
    "adam_epsilon": 1e-3,
}  # fmt: skip


IMAGES = {
    "random_shift": 2,
    "encoder": "small",
    "pooling": "max",
    "hidden": (8,),
    "env_kwargs": {"map": "S.\n.G"},
    "eval_every_steps": 80,
    "eval_max_steps": 10,
}


RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dqn": ("dqn", "CartPole-v1", TOOLBOX | EARLY),
    "dqn-attention": ("dqn", "CartPole-v1", TOOLBOX | EARLY | {"memory": "attention", "context": 3}),
    "dqn-images": ("dqn", "lab/GridWorldPixels-v0", IMAGES | EARLY),
    "ppo": ("ppo", "CartPole-v1", TOOLBOX | {"n_steps": 16, "batch_size": 8, "n_epochs": 2}),
    "ppo-images": ("ppo", "lab/GridWorldPixels-v0", IMAGES | {"n_steps": 16, "batch_size": 8, "n_epochs": 2}),
    "pqn": ("pqn", "CartPole-v1", TOOLBOX | {"n_steps": 16, "batch_size": 8}),
    "a2c-lstm": ("a2c", "CartPole-v1", TOOLBOX | {"memory": "lstm", "memory_layers": 2}),
}


class TestResuming:
    @pytest.mark.long
    @pytest.mark.parametrize("name", RUNS)
    def test_with_everything_on_no_bit_changes(self, name, tmp_path):
        agent, env_id, fields = RUNS[name]
        fields = {"total_steps": 160, "num_envs": 2, "seed": 3} | fields
        learn(tmp_path / "whole", agent, env_id, **fields)
        learn(tmp_path / "cut", agent, env_id, stop_at=54, **fields)
        with asking_to_stop(110):
            assert rl_lab.resume(tmp_path / "cut").summary is None
        rl_lab.resume(tmp_path / "cut")
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()

    def test_a_loaded_policy_normalises(self, tmp_path):
        agent, env_id, fields = RUNS["ppo"]
        learn(tmp_path, agent, env_id, total_steps=160, **fields)
        weights = rl_lab.load_policy(tmp_path)._outputs
        wide = weights(np.full((1, 4), 1e6, np.float32), (), np.zeros(1, np.bool_))[1]
        clipped = weights(np.full((1, 4), 1e9, np.float32), (), np.zeros(1, np.bool_))[1]
        assert wide == clipped


class TestRefusals:
    @pytest.mark.parametrize("config", [DQNConfig, PPOConfig, CloneConfig])
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"dropout": 1.0}, "dropout must be between 0.0 and 0.99, got 1.0"),
            ({"pooling": "median"}, "pooling 'median' is unknown (allowed: none, max, average)"),
            ({"embedding_size": 0}, "embedding_size must be at least 1, got 0"),
            ({"random_shift": -1}, "random_shift must be at least 0, got -1"),
            ({"learning_rate_decay": "quick"}, "learning_rate_decay 'quick' is unknown (allowed: linear,"),
            (
                {"learning_rate_final": 0.0, "learning_rate_decay": "step"},
                "learning_rate_final 0 is out of reach",
            ),
            ({"adam_epsilon": 0.0}, "adam_epsilon must be between 1e-20 and 1.0, got 0.0"),
            ({"adam_epsilon": 1.5}, "adam_epsilon must be between 1e-20 and 1.0, got 1.5"),
            ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
            ({"memory_layers": 0}, "memory_layers must be at least 1, got 0"),
            ({"context": 1}, "context must be at least 2, got 1"),
            ({"normalise_gradients": "yes"}, "normalise_gradients must be true or false, got 'yes'"),
        ],
    )
    def test_values_out_of_range(self, config, fields, says):
        with pytest.raises(UsageError) as caught:
            config(**fields)
        assert says in str(caught.value)

    @pytest.mark.parametrize(
        ("agent", "env_id", "fields", "says"),
        [
            (
                "dqn",
                "FrozenLake-v1",
                {"normalise_observations": True},
                "finds nothing to normalise in Discrete(16)",
            ),
            ("ppo", "CartPole-v1", {"random_shift": 4}, "random_shift 4 finds no image in Box("),
            (
                "dqn",
                "CartPole-v1",
                {"compile": "yes", "dropout": 0.1},
                "compile 'yes' requires dropout 0.0",
            ),
            ("ppo", "CartPole-v1", {"compile": "yes", "l2": 0.1}, "compile 'yes' requires l2 0.0"),
            (
                "ppo",
                "CartPole-v1",
                {"linear_decay": True, "learning_rate_final": 0.1},
                "learning_rate_final is 0.1",
            ),
        ],
    )
    def test_what_cannot_be(self, agent, env_id, fields, says):
        with pytest.raises(UsageError) as caught:
            rl_lab.learn(agent, env_id, **fields, wandb="disabled", total_steps=10)
        assert says in str(caught.value)

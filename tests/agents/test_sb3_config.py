"""SB3's arguments against those of its zoo, and spaces that it takes."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO

from rl_lab.agents.sb3 import (
    A2CConfig,
    DQNConfig,
    PPOConfig,
    SB3Policy,
    build_dqn,
    build_ppo,
    gradient_steps,
    make_vec_env,
)
from rl_lab.types import UsageError
from toys import ConstantReward, Identity, problem_on

ZOO = {
    "learning_rate": 2.3e-3,
    "learning_starts_env_steps": 1_000,
    "train_period_env_steps": 256,
    "gradient_steps_per_update": 128,
    "target_period_env_steps": 10,
    "replay_capacity": 100_000,
    "batch_size": 64,
    "epsilon_fraction": 0.16,
    "epsilon_final": 0.04,
    "hidden": (256, 256),
}


ZOO_ARGUMENTS = {
    "learning_rate": 2.3e-3,
    "gamma": 0.99,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "train_freq": 256,
    "gradient_steps": 128,
    "target_update_interval": 10,
    "tau": 1.0,
    "max_grad_norm": 10.0,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.04,
    "exploration_fraction": 0.16,
    "policy_kwargs": {"net_arch": [256, 256]},
}


DEFAULT_DQN = {
    "learning_rate": 1e-4,
    "gamma": 0.99,
    "batch_size": 32,
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "train_freq": 4,
    "gradient_steps": 1,
    "target_update_interval": 10_000,
    "tau": 1.0,
    "max_grad_norm": 10.0,
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.05,
    "exploration_fraction": 0.1,
    "policy_kwargs": {"net_arch": [64, 64]},
}


DEFAULT_ON_POLICY = {
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "n_steps": 2048,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "learning_rate": 3e-4,
    "policy_kwargs": {"net_arch": [64, 64]},
}


class TestTranslation:
    """train_freq counts vector steps; SB3 divides the target's interval by n_envs itself."""

    @pytest.mark.parametrize(
        ("config", "num_envs", "arguments"),
        [
            (DQNConfig(), 1, DEFAULT_DQN),
            (DQNConfig(), 4, DEFAULT_DQN | {"train_freq": 1}),
            (
                DQNConfig(target_tau=0.1, gamma=0.9),
                2,
                DEFAULT_DQN | {"train_freq": 2, "tau": 0.1, "gamma": 0.9},
            ),
            (DQNConfig(**ZOO), 1, ZOO_ARGUMENTS),
            (DQNConfig(**ZOO), 2, ZOO_ARGUMENTS | {"train_freq": 128}),
            (PPOConfig(), 1, DEFAULT_ON_POLICY | {"batch_size": 64, "n_epochs": 10, "clip_range": 0.2}),
            (
                PPOConfig(n_steps=32, batch_size=256, gae_lambda=0.8, hidden=(8,)),
                8,
                DEFAULT_ON_POLICY
                | {"n_steps": 32, "batch_size": 256, "n_epochs": 10, "clip_range": 0.2, "gae_lambda": 0.8}
                | {"policy_kwargs": {"net_arch": [8]}},
            ),
            (A2CConfig(), 4, DEFAULT_ON_POLICY | {"learning_rate": 7e-4, "gae_lambda": 1.0, "n_steps": 5}),
        ],
    )
    def test_arguments_equal_the_table(self, config, num_envs, arguments):
        assert config.arguments(num_envs) == arguments

    @pytest.mark.parametrize(("config", "algorithm"), [(DQNConfig, DQN), (PPOConfig, PPO), (A2CConfig, A2C)])
    def test_defaults_are_those_of_sb3(self, config, algorithm):
        theirs = inspect.signature(algorithm.__init__).parameters
        for name, value in config().arguments(1).items():
            if name != "policy_kwargs":  # SB3 keeps the widths in its policies
                assert value == theirs[name].default, name

    def test_a_linear_decay_reaches_learning_rate_and_clip_range(self):
        arguments = PPOConfig(linear_decay=True, learning_rate=0.001, clip_range=0.4).arguments(1)
        assert [arguments["learning_rate"](left) for left in (1.0, 0.5, 0.0)] == [0.001, 0.0005, 0.0]
        assert [arguments["clip_range"](left) for left in (1.0, 0.5, 0.0)] == [0.4, 0.2, 0.0]

    def test_translating_twice_gives_the_same(self):
        config = DQNConfig()
        assert config.arguments(4) == config.arguments(4)

    def test_an_algorithm_made_from_it_counts_environment_steps(self):
        problem = problem_on(ConstantReward, num_envs=2)
        model = build_dqn(train_period_env_steps=8, replay_capacity=10).make_model(
            problem, make_vec_env(problem, [])
        )
        assert (model.train_freq.frequency, model.target_update_interval) == (4, 10_000)


class TestOtherSpaces:
    def test_numbered_states_are_learned(self):
        problem = problem_on(lambda: Identity(3), total_steps=1_500)
        learner = build_dqn(
            learning_rate=3e-3,
            replay_capacity=2_000,
            target_period_env_steps=50,
            gamma=0.5,
            epsilon_fraction=0.5,
        )
        model = learner.make_model(problem, make_vec_env(problem, []))
        model.learn(1_500)
        assert model.predict(np.arange(3), deterministic=True)[0].tolist() == [0, 1, 2]

    def test_a_stochastic_policy_acts_on_its_most_likely_action(self):
        problem = problem_on(ConstantReward)
        model = build_ppo().make_model(problem, make_vec_env(problem, []))
        policy, obs = (
            SB3Policy(model.policy, problem.spec),
            np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32),
        )
        likely = model.policy.get_distribution(torch.from_numpy(obs)).distribution.probs.argmax(dim=1)
        action = policy.act(obs, (), np.ones(500, np.bool_)).action
        np.testing.assert_array_equal(action, likely.numpy())
        assert policy.inspect(obs, (), np.ones(500, np.bool_))["value"].shape == (500,)

    def test_a_policy_that_only_acts_allocates_no_replay(self):
        problem = problem_on(ConstantReward)
        model = build_dqn().make_model(problem, make_vec_env(problem, []), for_acting=True)
        assert model.buffer_size == 1

    @pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
    @pytest.mark.parametrize(("num_envs", "n_steps", "batch_size"), [(1, 8, 8), (2, 8, 4), (2, 6, 5)])
    def test_gradient_steps_are_those_the_optimiser_took(self, num_envs, n_steps, batch_size):
        problem = problem_on(ConstantReward, num_envs=num_envs)
        learner = build_ppo(n_steps=n_steps, batch_size=batch_size, n_epochs=3)
        model = learner.make_model(problem, make_vec_env(problem, [])).learn(4 * n_steps * num_envs)
        taken = int(next(iter(model.policy.optimizer.state.values()))["step"])
        assert gradient_steps(model) == taken


@pytest.mark.parametrize("config", [DQNConfig, PPOConfig, A2CConfig])
@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hidden": (0,)}, "hidden must be whole numbers from 1"),
        ({"gamma": 1.5}, "gamma must be between"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be greater than 0"),
    ],
)
def test_fields_that_all_share_are_checked_by_all(config, fields, says):
    with pytest.raises(UsageError, match=says):
        config(**fields)

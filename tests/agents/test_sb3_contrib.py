"""sb3-contrib's QR-DQN and recurrent PPO through the lab: its own parameters to the bit, and a carry that is kept."""

from __future__ import annotations

import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from torch import nn

import rl_lab
from plain_sb3 import QUIET, parameters_of, plain, same_parameters
from rl_lab.agents.sb3 import gradient_steps, make_vec_env
from rl_lab.agents.sb3.contrib import QRDQNConfig, RecurrentPPOConfig, build_qrdqn, build_recurrent_ppo
from rl_lab.agents.sb3.policies import RecurrentSB3Policy
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.runs.rows import read_episodes, read_rows
from rl_lab.seeding import episode_seed
from rl_lab.types import UsageError
from toys import ConstantReward, CueRecall, Repeat, problem_on

QRDQN_FIELDS = {
    "total_steps": 400, "learning_rate": 1e-3, "learning_starts_env_steps": 100, "train_period_env_steps": 8,
    "gradient_steps_per_update": 4, "target_period_env_steps": 40, "replay_capacity": 1_000, "hidden": (32,),
    "epsilon_fraction": 0.5, "n_quantiles": 5,
}  # fmt: skip
PPO_FIELDS = {
    "total_steps": 256, "n_steps": 32, "batch_size": 32, "n_epochs": 2, "hidden": (16,), "memory_size": 8
}  # fmt: skip


def learn(folder, agent, **fields):
    return rl_lab.learn(agent, "CartPole-v1", run_dir=str(folder), **QUIET | {"eval_episodes": 3} | fields)


class TestBitForBit:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_qrdqn_ends_with_the_parameters_of_plain_sb3_contrib(self, tmp_path, num_envs):
        found = learn(tmp_path, "sb3-qrdqn", num_envs=num_envs, seed=5, eval_every_steps=150, **QRDQN_FIELDS)
        model = plain(
            "sb3-qrdqn", num_envs, 5, QRDQN, 400,
            learning_rate=1e-3, learning_starts=100, train_freq=8 // num_envs, gradient_steps=4,
            target_update_interval=40, buffer_size=1_000, exploration_fraction=0.5,
            policy_kwargs={"net_arch": [32], "n_quantiles": 5},
        )  # fmt: skip
        assert same_parameters(parameters_of(found.policy), model.policy.state_dict())
        assert found.summary["gradient_steps"] == model._n_updates > 0

    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_recurrent_ppo_ends_with_the_parameters_of_plain_sb3_contrib(self, tmp_path, num_envs):
        fields = PPO_FIELDS | {
            "activation": "relu",
            "initialisation": "default",
            "critic_memory": num_envs == 1,
        }
        found = learn(
            tmp_path, "sb3-recurrent-ppo", num_envs=num_envs, seed=5, eval_every_steps=100, **fields
        )
        model = plain(
            "sb3-recurrent-ppo", num_envs, 5, RecurrentPPO, 256, policy="MlpLstmPolicy",
            n_steps=32, batch_size=32, n_epochs=2,
            policy_kwargs={
                "net_arch": [16], "lstm_hidden_size": 8, "activation_fn": nn.ReLU, "ortho_init": False,
                "enable_critic_lstm": num_envs == 1,
            },
        )  # fmt: skip
        assert same_parameters(parameters_of(found.policy), model.policy.state_dict())
        taken = int(next(iter(model.policy.optimizer.state.values()))["step"])
        assert found.summary["gradient_steps"] == gradient_steps(model) == taken == 256 // 32 * 2


class TestRecords:
    @pytest.mark.parametrize(
        ("agent", "fields"), [("sb3-qrdqn", QRDQN_FIELDS), ("sb3-recurrent-ppo", PPO_FIELDS)]
    )
    def test_episodes_have_the_labs_seeds_and_rows_the_figures(self, tmp_path, agent, fields):
        found = learn(tmp_path, agent, seed=9, num_envs=2, **fields)
        rows = read_episodes(found.run_dir)
        for i in range(2):
            mine = [row for row in rows if row["env_index"] == i]
            assert len(mine) > 2
            assert [row["seed"] for row in mine] == [episode_seed(9, i, k) for k in range(len(mine))]
            assert all(row["return"] == row["length"] for row in mine)
        assert all("loss" in row for row in read_rows(found.run_dir)[-2:-1])

    def test_stopped_runs_start_again(self, tmp_path):
        found = learn(tmp_path, "sb3-qrdqn", eval_episodes=0, **QRDQN_FIELDS | {"total_steps": 50})
        (found.run_dir / "summary.json").unlink()
        with pytest.raises(UsageError, match="'sb3-qrdqn' can't resume exactly"):
            rl_lab.resume(found.run_dir)

    def test_values_of_qrdqn_are_the_means_of_its_quantiles(self, tmp_path):
        policy = learn(tmp_path, "sb3-qrdqn", **QRDQN_FIELDS).policy
        obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
        with torch.no_grad():
            quantiles = policy._policy.quantile_net(torch.from_numpy(obs)).numpy()  # [N, quantiles, actions]
        shown = policy.inspect(obs, (), np.ones(50, np.bool_))
        seen = shown["q_values"]
        assert quantiles.shape == (50, 5, 2)
        np.testing.assert_allclose(shown["atoms"], np.sort(quantiles.swapaxes(1, 2)), rtol=1e-6)
        rounding = 1e-6 * np.abs(quantiles).max()  # of the quantiles, which may cancel out in their mean
        np.testing.assert_allclose(seen, quantiles.mean(axis=1), rtol=1e-6, atol=rounding)
        np.testing.assert_array_equal(policy.act(obs, (), np.ones(50, np.bool_)).action, seen.argmax(axis=1))


def recurrent(make, **fields):
    """An untrained policy whose LSTM matters, and SB3's own."""
    problem = problem_on(make)
    learner = build_recurrent_ppo(**{"memory_size": 8, "hidden": (8,)} | fields)
    model = learner.make_model(problem, make_vec_env(problem, []))
    return RecurrentSB3Policy(model.policy, problem.spec), model.policy, problem


class TestCarry:
    @pytest.mark.parametrize("layers", [1, 2])
    @pytest.mark.parametrize("make", [CueRecall, Repeat])
    def test_acts_as_sb3_contrib_predicts_with_resets_at_episode_starts(self, make, layers):
        policy, theirs, problem = recurrent(make, memory_layers=layers)
        rng, state, own = np.random.default_rng(1), policy.initial_state(3), None
        space = problem.spec.observation_space
        differs = 0
        for k in range(12):
            obs = rng.uniform(-1, 1, (3, *space.shape)).astype(np.float32)
            first = np.array([k == 0, k in (0, 4), k in (0, 7)])
            decision = policy.act(obs, state, first)
            expected, own = theirs.predict(obs, own, first, deterministic=True)
            np.testing.assert_allclose(decision.action, expected, rtol=1e-6)
            for part, other in zip(decision.state[:2], own, strict=True):
                np.testing.assert_allclose(part, np.swapaxes(other, 0, 1), rtol=1e-6)
            assert all(part.shape == (3, layers, 8) for part in decision.state)
            differs += not np.allclose(
                decision.state[0], policy.act(obs, policy.initial_state(3), first).state[0]
            )
            state = decision.state
        assert differs > 5  # the carry matters

    @pytest.mark.parametrize("critic_memory", [True, False])
    def test_values_follow_the_critics_own_memory(self, critic_memory):
        policy, _, problem = recurrent(CueRecall, critic_memory=critic_memory)
        envs = problem.make(1)
        obs, _ = envs.reset(seed=[0])
        state, first = policy.initial_state(1), np.ones(1, np.bool_)
        after = policy.act(obs, state, first).state
        no = np.zeros(1, np.bool_)
        fresh, later = (policy.inspect(obs, carry, no)["value"] for carry in (state, after))
        assert (fresh != later).all() == critic_memory

    def test_evaluation_keeps_it_within_an_episode_and_begins_anew(self):
        policy, _, problem = recurrent(CueRecall)
        seen = []
        act = policy.act

        def tell(obs, state, is_first, mask=None):
            seen.append((is_first.copy(), state))
            return act(obs, state, is_first, mask)

        policy.act = tell
        evaluate(policy, problem.make(2), episodes=4, seed=0)
        firsts = np.array([first for first, _ in seen])  # episodes of three steps
        np.testing.assert_array_equal(firsts[:, 0], [True, False, False] * 2)
        assert all(np.abs(state[0]).sum() > 0 for _, state in seen[1:])

    def test_a_stored_policy_remembers_alike(self, tmp_path):
        found = learn(tmp_path, "sb3-recurrent-ppo", **PPO_FIELDS)
        stored = rl_lab.load_policy(found.run_dir)
        envs = rl_lab.make_envs("CartPole-v1", 2)
        returns = [evaluate(p, envs, episodes=4, seed=1).returns for p in (stored, found.policy)]
        np.testing.assert_array_equal(*returns)

    def test_no_exact_evaluation_is_claimed_for_it(self, tmp_path):
        found = rl_lab.learn(
            "sb3-recurrent-ppo", "FrozenLake-v1", run_dir=str(tmp_path / "run"), pictures=False,
            **QUIET | {"eval_episodes": 2} | PPO_FIELDS,
        )  # fmt: skip
        assert found.summary["regret"] is None
        assert found.summary["eval_return_mean"] is not None


class TestConfigs:
    @pytest.mark.parametrize(
        ("config", "algorithm"), [(QRDQNConfig, QRDQN), (RecurrentPPOConfig, RecurrentPPO)]
    )
    def test_defaults_are_those_of_sb3_contrib(self, config, algorithm):
        theirs = inspect.signature(algorithm.__init__).parameters
        for name, value in config().arguments(1).items():
            if name != "policy_kwargs":
                assert value == theirs[name].default, name
        alias = "MlpPolicy" if algorithm is QRDQN else "MlpLstmPolicy"
        of_policy = inspect.signature(algorithm.policy_aliases[alias].__init__).parameters
        for name, value in config().arguments(1)["policy_kwargs"].items():
            assert value == of_policy[name].default or name == "net_arch", name

    def test_a_linear_decay_reaches_the_step_size_of_qrdqn(self):
        rate = QRDQNConfig(linear_decay=True, learning_rate=0.002).arguments(1)["learning_rate"]
        assert [rate(left) for left in (1.0, 0.25, 0.0)] == [0.002, 0.0005, 0.0]

    @pytest.mark.parametrize(
        ("config", "fields", "says"),
        [
            (QRDQNConfig, {"n_quantiles": 0}, "n_quantiles must be at least 1, got 0"),
            (RecurrentPPOConfig, {"memory_size": 0}, "memory_size must be at least 1, got 0"),
            (
                RecurrentPPOConfig,
                {"activation": "gelu"},
                "activation 'gelu' is unknown (allowed: tanh, relu)",
            ),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, config, fields, says):
        with pytest.raises(UsageError) as caught:
            config(**fields)
        assert str(caught.value) == says

    def test_actions_and_periods_that_qrdqn_cannot_take_are_refused(self):
        class Steered(ConstantReward):
            action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

        assert (
            build_qrdqn()
            .refuse(problem_on(Steered))
            .startswith("sb3-qrdqn takes Discrete actions; toy has Box")
        )
        reason = build_qrdqn().refuse(problem_on(ConstantReward, num_envs=3))
        assert reason == "train_period_env_steps 4 must be a multiple of num_envs 3 with sb3-qrdqn"
        assert build_recurrent_ppo().refuse(problem_on(Steered)) is None


HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sb3_contrib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def run_without_contrib(code):
    return subprocess.run([sys.executable, "-c", HIDDEN + code], capture_output=True, text=True, check=False)


def test_without_the_package_the_command_that_installs_it_is_told_in_a_line():
    train = run_without_contrib(
        "from rl_lab.cli.parsing import main\nfrom rl_lab.cli.train import train\n"
        "main(train, ['--agent', 'sb3-qrdqn', '--env-id', 'CartPole-v1'])"
    )
    assert train.returncode == 2
    assert train.stderr.strip().splitlines() == [
        "error: agent 'sb3-qrdqn' needs a package that is missing: No module named 'sb3_contrib'"
        " (allowed after: pip install 'rl_lab[contrib]')"
    ]


def test_the_list_of_agents_says_which_are_not_installed():
    listed = run_without_contrib("from rl_lab.cli.agents import agents\nagents([])").stdout.splitlines()
    lacking = [line for line in listed if "not installed" in line]
    assert [line.split()[0] for line in lacking] == ["sb3-qrdqn", "sb3-recurrent-ppo"]
    assert all(line.endswith("(not installed: pip install 'rl_lab[contrib]')") for line in lacking)

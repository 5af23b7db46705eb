"""Options of SB3's agents: subnormal numbers flushed, VecNormalize, and what SB3 itself does with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecNormalize

import rl_lab
from plain_sb3 import QUIET, parameters_of, plain, same_parameters
from rl_lab.agents.sb3 import SB3Policy, build_dqn, build_ppo, denormals, make_vec_env
from rl_lab.agents.sb3.denormals import flushed_denormals, flushes_denormals
from rl_lab.agents.sb3.normalising import Normaliser, normalised
from rl_lab.runs.description import config_hash, read_description
from rl_lab.runs.rows import read_episodes
from toys import ConstantReward, Identity, problem_on

PPO_FIELDS = {"total_steps": 256, "n_steps": 64, "batch_size": 32, "n_epochs": 2, "hidden": (16,)}
ARGUMENTS = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [16]}}
TINY_GRADIENTS = 1e-39  # their norm: biases, which begin at 0, get subnormal gradients, or none


def learn(folder, agent, env_id="CartPole-v1", **fields):
    return rl_lab.learn(agent, env_id, run_dir=str(folder), **QUIET | {"eval_episodes": 2} | fields)


class Images(ConstantReward):
    observation_space = spaces.Box(0, 255, (36, 36, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return np.zeros((36, 36, 3), np.uint8), {}


class TestFlushing:
    @pytest.mark.parametrize("flush", [False, True])
    def test_parameters_are_those_of_plain_sb3_in_the_same_mode(self, tmp_path, flush):
        fields = PPO_FIELDS | {"max_grad_norm": TINY_GRADIENTS, "flush_denormals": flush}
        found = learn(tmp_path / "run", "sb3-ppo", seed=3, **fields)
        theirs = {}
        for mode in (False, True):
            with flushed_denormals(mode):
                model = plain("sb3-ppo", 1, 3, PPO, 256, max_grad_norm=TINY_GRADIENTS, **ARGUMENTS)
            theirs[mode] = model.policy.state_dict()
        assert same_parameters(parameters_of(found.policy), theirs[flush])
        assert not same_parameters(theirs[True], theirs[False])
        assert found.summary["flush_denormals"] is flush
        assert read_description(tmp_path / "run").fields["flush_denormals"] is flush

    def test_it_holds_while_sb3_learns_and_neither_in_evaluations_nor_afterwards(self, tmp_path, monkeypatch):
        seen = {"learning": set(), "acting": set()}
        train, act = DQN.train, SB3Policy.act

        def tell_train(self, *args, **kwargs):
            seen["learning"].add(flushes_denormals())
            return train(self, *args, **kwargs)

        def tell_act(self, *args):
            seen["acting"].add(flushes_denormals())
            return act(self, *args)

        monkeypatch.setattr(DQN, "train", tell_train)
        monkeypatch.setattr(SB3Policy, "act", tell_act)
        fields = {
            "total_steps": 200,
            "replay_capacity": 300,
            "eval_every_steps": 100,
            "flush_denormals": True,
        }
        learn(tmp_path / "run", "sb3-dqn", **fields)
        assert seen == {"learning": {True}, "acting": {False}}
        assert not flushes_denormals()

    def test_the_mode_from_before_comes_back_even_after_an_error(self):
        def fail():
            with flushed_denormals(False):
                assert not flushes_denormals()
                raise KeyError

        with flushed_denormals(True):
            with pytest.raises(KeyError):
                fail()
            assert flushes_denormals()
        assert not flushes_denormals()

    def test_a_processor_that_cannot_refuses_it_in_a_line(self, monkeypatch):
        monkeypatch.setattr(denormals.torch, "set_flush_denormal", lambda mode: False)
        problem = problem_on(ConstantReward)
        reason = build_ppo(flush_denormals=True).refuse(problem)
        assert reason == "sb3-ppo: flush_denormals isn't possible on this processor (allowed: False)"
        assert build_ppo().refuse(problem) is None

    def test_the_hash_of_a_run_without_the_new_fields_stays_as_it_was(self, tmp_path):
        learn(tmp_path / "run", "sb3-ppo", **PPO_FIELDS | {"total_steps": 64})
        there = read_description(tmp_path / "run")
        new = ("flush_denormals", "normalise_observations", "normalise_rewards")
        before = {name: value for name, value in there.fields.items() if name not in new}
        assert config_hash(dataclasses.replace(there, fields=before)) == there.config_sha256
        for name in new:
            other = dataclasses.replace(there, fields=there.fields | {name: True})
            assert config_hash(other) != there.config_sha256


NORMALISED = PPO_FIELDS | {"normalise_observations": True, "normalise_rewards": True, "gamma": 0.9}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normalised") / "run"
    return learn(folder, "sb3-ppo", seed=5, num_envs=2, **NORMALISED)


class TestNormalising:
    def test_parameters_are_those_of_plain_sb3_in_a_vec_normalize(self, finished):
        model = plain(
            "sb3-ppo",
            2,
            5,
            PPO,
            256,
            around=lambda envs: VecNormalize(envs, gamma=0.9),
            gamma=0.9,
            **ARGUMENTS,
        )
        assert same_parameters(parameters_of(finished.policy), model.policy.state_dict())
        without = plain("sb3-ppo", 2, 5, PPO, 256, gamma=0.9, **ARGUMENTS)
        assert not same_parameters(without.policy.state_dict(), model.policy.state_dict())

    def test_returns_are_raw(self, finished):
        rows = read_episodes(finished.run_dir)
        assert rows
        assert all(row["return"] == row["length"] for row in rows)  # CartPole pays 1 a step
        assert all(value == int(value) >= 8 for value in finished.summary["eval_returns"])

    def test_a_stored_policy_acts_and_values_alike(self, finished):
        stored = rl_lab.load_policy(finished.run_dir)
        obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        first = np.ones(200, np.bool_)
        for policy in (stored, finished.policy):
            assert len(set(policy.act(obs, (), first).action.tolist())) == 2
        np.testing.assert_array_equal(*(p.act(obs, (), first).action for p in (stored, finished.policy)))
        np.testing.assert_array_equal(
            *(p.inspect(obs, (), first)["value"] for p in (stored, finished.policy))
        )

    def test_observations_and_values_are_on_the_scales_of_vec_normalize(self):
        problem = problem_on(ConstantReward)
        learner = build_ppo(normalise_observations=True, normalise_rewards=True)
        envs = normalised(make_vec_env(problem, []), learner.config)
        model = learner.make_model(problem, envs)
        envs.obs_rms.mean, envs.obs_rms.var, envs.ret_rms.var = (
            np.array([2.0]),
            np.array([4.0]),
            np.array(25.0),
        )
        policy = SB3Policy(model.policy, problem.spec, Normaliser(envs))
        obs, first = np.array([[4.0]], np.float32), np.ones(1, np.bool_)
        with torch.no_grad():
            value = model.policy.predict_values(torch.tensor([[1.0]]))[:, 0].numpy()  # (4 - 2) / 2
        np.testing.assert_allclose(policy.inspect(obs, (), first)["value"], 5.0 * value, rtol=1e-5)

    def test_a_warm_start_takes_the_statistics_along(self, finished, tmp_path):
        fields = NORMALISED | {"total_steps": 64, "learning_rate": 1e-12}
        warm = learn(tmp_path / "warm", "sb3-ppo", init_from=str(finished.run_dir), **fields)
        count = warm.policy._normaliser.weights()["normaliser.observations.count"]
        assert count > finished.policy._normaliser.weights()["normaliser.observations.count"] > 250
        with pytest.raises(rl_lab.UsageError, match="init_from: statistics of normalisation"):
            learn(tmp_path / "other", "sb3-ppo", init_from=str(finished.run_dir), **PPO_FIELDS)

    def test_what_it_cannot_normalise_is_refused_in_a_line(self):
        for make in (lambda: Identity(3), Images):
            reason = build_dqn(normalise_observations=True, replay_capacity=10).refuse(problem_on(make))
            assert reason is not None
            assert reason.startswith("normalise_observations with sb3-dqn takes vectors; toy has")
            assert "\n" not in reason

"""SB3 through the lab: the same parameters as plain SB3, the same clock as ours, the lab's episodes."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import stable_baselines3.dqn.dqn as sb3_dqn
from gymnasium import spaces
from stable_baselines3 import DQN, PPO

import rl_lab
import rl_lab.agents.dqn.agent
from plain_sb3 import QUIET, parameters_of, plain, same_parameters
from rl_lab.agents.sb3 import (
    A2CConfig,
    DQNConfig,
    PPOConfig,
    build_dqn,
    build_ppo,
    make_vec_env,
)
from rl_lab.runs.description import read_description
from rl_lab.runs.rows import read_actions, read_episodes, read_rows
from rl_lab.seeding import episode_seed
from rl_lab.types import UsageError
from toys import ConstantReward, problem_on

SHORT_DQN = {
    "total_steps": 600,
    "learning_rate": 1e-3,
    "learning_starts_env_steps": 100,
    "train_period_env_steps": 8,
    "gradient_steps_per_update": 4,
    "target_period_env_steps": 40,
    "replay_capacity": 1_000,
    "hidden": (32,),
    "epsilon_fraction": 0.5,
}


SHORT_PPO = {"total_steps": 512, "n_steps": 64, "batch_size": 32, "n_epochs": 2, "hidden": (16,)}


def learn(folder, agent, **fields):
    return rl_lab.learn(agent, "CartPole-v1", run_dir=str(folder / "run"), **QUIET, **fields)


def assert_same_parameters(ours, theirs):
    assert same_parameters(ours, theirs)


class TestBitForBit:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_dqn_ends_with_the_parameters_of_plain_sb3(self, tmp_path, num_envs):
        watched = {"eval_every_steps": 150, "eval_episodes": 3, "log_every_steps": 50}
        result = learn(tmp_path, "sb3-dqn", num_envs=num_envs, seed=5, **watched, **SHORT_DQN)
        model = plain(
            "sb3-dqn", num_envs, 5, DQN, 600,
            learning_rate=1e-3, learning_starts=100, train_freq=8 // num_envs, gradient_steps=4,
            target_update_interval=40, buffer_size=1_000, exploration_fraction=0.5,
            policy_kwargs={"net_arch": [32]},
        )  # fmt: skip
        assert_same_parameters(parameters_of(result.policy), model.policy.state_dict())
        evaluated = [row["env_steps"] for row in read_rows(result.run_dir) if "eval_returns" in row]
        assert evaluated == {1: [150, 300, 450, 600], 4: [152, 300, 452, 600]}[num_envs]
        assert result.summary["gradient_steps"] == model._n_updates

    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_ppo_ends_with_the_parameters_of_plain_sb3(self, tmp_path, num_envs):
        watched = {"eval_every_steps": 100, "eval_episodes": 3}
        result = learn(tmp_path, "sb3-ppo", num_envs=num_envs, seed=5, **watched, **SHORT_PPO)
        model = plain(
            "sb3-ppo", num_envs, 5, PPO, 512,
            n_steps=64, batch_size=32, n_epochs=2, policy_kwargs={"net_arch": [16]},
        )  # fmt: skip
        assert_same_parameters(parameters_of(result.policy), model.policy.state_dict())
        steps = int(next(iter(model.policy.optimizer.state.values()))["step"])
        assert result.summary["gradient_steps"] == steps == 512 // 32 * 2

    @pytest.mark.long
    def test_nothing_is_left_in_the_systems_temporary_folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        learn(tmp_path / "run", "sb3-ppo", total_steps=64, n_steps=32, batch_size=32)
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_how_often_one_evaluates_changes_no_parameter(self, tmp_path):
        often = learn(tmp_path / "often", "sb3-dqn", eval_every_steps=60, eval_episodes=2, **SHORT_DQN)
        never = learn(tmp_path / "never", "sb3-dqn", eval_episodes=0, **SHORT_DQN)
        assert_same_parameters(parameters_of(often.policy), parameters_of(never.policy))
        assert often.summary["weights_sha256"] == never.summary["weights_sha256"]

    def test_the_seed_decides(self, tmp_path):
        hashes = [
            learn(tmp_path / str(k), "sb3-dqn", seed=seed, eval_episodes=0, **SHORT_DQN).summary[
                "weights_sha256"
            ]
            for k, seed in enumerate([1, 1, 2])
        ]
        assert hashes[0] == hashes[1] != hashes[2]


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "num_envs", "says"),
        [
            ({"train_period_env_steps": 4}, 3, "train_period_env_steps 4 must be a multiple of num_envs 3"),
            (
                {"train_period_env_steps": 4, "target_period_env_steps": 10},
                4,
                "target_period_env_steps 10 must be a multiple of num_envs 4",
            ),
        ],
    )
    def test_periods_that_sb3_cannot_count_are_refused(self, fields, num_envs, says):
        reason = build_dqn(**fields).refuse(problem_on(ConstantReward, num_envs=num_envs))
        assert reason is not None
        assert says in reason
        assert "\n" not in reason

    def test_periods_that_it_can_count_are_taken(self):
        assert build_dqn().refuse(problem_on(ConstantReward, num_envs=4)) is None

    def test_actions_that_it_cannot_take_are_refused_by_name(self):
        class Steered(ConstantReward):
            action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

        reason = build_dqn().refuse(problem_on(Steered))
        assert reason is not None
        assert reason.startswith("sb3-dqn takes Discrete actions; toy has Box")
        assert build_ppo().refuse(problem_on(Steered)) is None

    @pytest.mark.parametrize(
        ("config", "fields", "says"),
        [
            (DQNConfig, {"learning_rate": -1.0}, "learning_rate must be greater than 0.0, got -1.0"),
            (DQNConfig, {"gamma": 2.0}, "gamma must be between 0.0 and 1.0, got 2.0"),
            (PPOConfig, {"batch_size": 1}, "batch_size must be at least 2, got 1"),
            (PPOConfig, {"clip_range": 0.0}, "clip_range must be greater than 0.0, got 0.0"),
            (A2CConfig, {"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, config, fields, says):
        with pytest.raises(UsageError) as caught:
            config(**fields)
        assert str(caught.value) == says

    def test_one_hot_vectors_of_millions_are_refused(self):
        class Many(ConstantReward):
            observation_space = spaces.Discrete(5_000_000)

            def reset(self, *, seed=None, options=None):
                return 0, {}

        reason = build_ppo().refuse(problem_on(Many))
        assert "takes Discrete observations of up to 1000000 values" in reason

    def test_masks_that_it_ignores_are_said(self, tmp_path):
        with pytest.warns(UserWarning, match="sb3-dqn ignores action masks and may act illegally"):
            run = rl_lab.learn(
                "sb3-dqn", "Taxi-v4", run_dir=tmp_path, total_steps=50, eval_episodes=0, wandb="disabled",
                video_episodes=0,
            )  # fmt: skip
        assert run.summary["ignored_masks"] is True

    def test_what_sb3_itself_refuses_becomes_one_line(self):
        class Odd(ConstantReward):
            observation_space = spaces.Tuple([spaces.Discrete(2)])

        problem = problem_on(Odd)
        with pytest.raises(UsageError, match="sb3-dqn refuses toy") as caught:
            build_dqn(replay_capacity=10).make_model(problem, make_vec_env(problem, []))
        assert "\n" not in str(caught.value)

    def test_a_run_cannot_be_resumed(self, tmp_path):
        result = learn(tmp_path, "sb3-dqn", eval_episodes=0, **SHORT_DQN | {"total_steps": 50})
        (result.run_dir / "summary.json").unlink()  # as if it had been killed
        with pytest.raises(UsageError, match="'sb3-dqn' can't resume exactly") as caught:
            rl_lab.resume(result.run_dir)
        assert "\n" not in str(caught.value)


class TestSameClock:
    """One set of fields means the same number of updates at the same environment steps to both."""

    @pytest.mark.parametrize("num_envs", [1, 2])
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"total_steps": 403, "learning_starts_env_steps": 96, "target_period_env_steps": 10},
            {"train_period_env_steps": 64, "gradient_steps_per_update": 5, "learning_starts_env_steps": 0},
        ],
    )
    def test_of_target_updates_and_bursts(self, tmp_path, monkeypatch, num_envs, fields):
        fields = SHORT_DQN | {"total_steps": 400, "num_envs": num_envs, "eval_episodes": 0} | fields
        theirs = self.of_sb3(tmp_path, monkeypatch, fields)
        ours = self.of_ours(tmp_path, monkeypatch, fields)
        assert ours == theirs
        assert all(ours.values())

    def of_sb3(self, folder, monkeypatch, fields):
        now, bursts, synchronised = [0], [], []
        on_step, train, polyak = DQN._on_step, DQN.train, sb3_dqn.polyak_update

        def count_step(model):
            now[0] = model.num_timesteps
            on_step(model)

        def count_train(model, gradient_steps, batch_size=100):
            bursts.append((model.num_timesteps, gradient_steps))
            train(model, gradient_steps, batch_size)

        def count_polyak(source, target, tau):
            if not isinstance(source, list):  # the statistics of batch norm come as a list, and are none here
                synchronised.append((now[0], tau))
            polyak(source, target, tau)

        monkeypatch.setattr(DQN, "_on_step", count_step)
        monkeypatch.setattr(DQN, "train", count_train)
        monkeypatch.setattr(sb3_dqn, "polyak_update", count_polyak)
        result = learn(folder / "sb3", "sb3-dqn", **fields)
        return self.found(result, bursts, synchronised)

    def of_ours(self, folder, monkeypatch, fields):
        learned, synchronised, agent = [], [], []
        make, learn_one, polyak = (
            rl_lab.agents.dqn.DQN.__init__,
            rl_lab.agents.dqn.DQN.learn,
            rl_lab.agents.dqn.agent.polyak_update,
        )

        def remember(self, *args):
            make(self, *args)
            agent.append(self)

        def count_learn(self, drawn):
            outcome = learn_one(self, drawn)
            learned.extend([self.env_steps] * len(outcome.loss))
            return outcome

        def count_polyak(source, target, tau):
            if agent:  # before, it is made
                synchronised.append((agent[0].env_steps, tau))
            polyak(source, target, tau)

        monkeypatch.setattr(rl_lab.agents.dqn.DQN, "__init__", remember)
        monkeypatch.setattr(rl_lab.agents.dqn.DQN, "learn", count_learn)
        monkeypatch.setattr(rl_lab.agents.dqn.agent, "polyak_update", count_polyak)
        result = learn(folder / "ours", "dqn", **fields)
        when, how_many = np.unique(learned, return_counts=True)
        return self.found(result, list(zip(when.tolist(), how_many.tolist(), strict=True)), synchronised)

    @staticmethod
    def found(result, bursts, synchronised):
        summary = result.summary
        return {
            "bursts": bursts,
            "target": synchronised,
            "env_steps": summary["env_steps"],
            "gradient_steps": summary["gradient_steps"],
        }

    def test_epsilon_falls_alike(self, tmp_path):
        fields = SHORT_DQN | {"eval_episodes": 0, "log_every_steps": 40, "learning_starts_env_steps": 0}
        theirs, ours = (
            {
                r["env_steps"]: r["epsilon"]
                for r in read_rows(learn(tmp_path / name, name, **fields).run_dir)
                if "epsilon" in r
            }
            for name in ("sb3-dqn", "dqn")
        )
        assert list(ours) == list(theirs) == list(range(40, 601, 40))
        for step in ours:  # SB3's callback runs before the step's own decay
            assert ours[step] == pytest.approx(max(0.05, 1 - 0.95 * step / 300))
            assert theirs[step] == pytest.approx(max(0.05, 1 - 0.95 * (step - 1) / 300))


@pytest.fixture(scope="module", params=[1, 3])
def finished(request, tmp_path_factory):
    fields = SHORT_DQN | {"train_period_env_steps": 12, "target_period_env_steps": 60, "eval_episodes": 2}
    return learn(tmp_path_factory.mktemp("sb3"), "sb3-dqn", seed=9, num_envs=request.param, **fields)


class TestRecords:
    def test_every_episode_has_one_row_with_the_labs_seed(self, finished):
        config, rows = read_description(finished.run_dir).config, read_episodes(finished.run_dir)
        assert len(rows) == finished.summary["episodes"] > 10
        for i in range(config.num_envs):
            mine = [row for row in rows if row["env_index"] == i]
            assert [row["episode"] for row in mine] == list(range(len(mine)))
            assert [row["seed"] for row in mine] == [episode_seed(9, i, k) for k in range(len(mine))]
            ends = np.cumsum([row["length"] for row in mine]) * config.num_envs
            assert [row["env_steps"] for row in mine] == ends.tolist()
        assert [row["env_steps"] for row in rows] == sorted(row["env_steps"] for row in rows)

    def test_episodes_replay_from_their_actions_with_the_same_return(self, finished):
        env = rl_lab.make_env("CartPole-v1")
        for k, row in enumerate(read_episodes(finished.run_dir)):
            env.reset(seed=row["seed"])
            total = 0.0
            for action in read_actions(finished.run_dir, k, env.action_space):
                _, reward, terminated, truncated, _ = env.step(int(action))
                total += float(reward)
            assert total == row["return"]
            assert (terminated, truncated) == (bool(row["terminated"]), bool(row["truncated"]))

    def test_the_first_episodes_are_those_that_our_own_agents_get(self, finished, tmp_path):
        ours = learn(
            tmp_path,
            "random",
            seed=9,
            total_steps=200,
            num_envs=read_description(finished.run_dir).config.num_envs,
        )
        seeds = [
            {(r["env_index"], r["episode"]): r["seed"] for r in read_episodes(run.run_dir)}
            for run in (ours, finished)
        ]
        shared = seeds[0].keys() & seeds[1].keys()
        assert len(shared) > 3
        assert all(seeds[0][key] == seeds[1][key] for key in shared)

    def test_the_loaded_policy_acts_alike(self, finished):
        loaded = rl_lab.load_policy(finished.run_dir)
        obs = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        first = np.zeros(200, np.bool_)
        ours, theirs = loaded.act(obs, (), first).action, finished.policy.act(obs, (), first).action
        np.testing.assert_array_equal(ours, theirs)
        assert len(set(ours.tolist())) == 2
        values = [policy.inspect(obs, (), first)["q_values"] for policy in (loaded, finished.policy)]
        np.testing.assert_array_equal(*values)
        np.testing.assert_array_equal(values[0].argmax(axis=1), ours)

    def test_rows_show_what_sb3_knows(self, finished):
        rows = [row for row in read_rows(finished.run_dir) if "epsilon" in row]
        assert rows[0]["epsilon"] > rows[-1]["epsilon"] == pytest.approx(0.05)
        assert "loss" in rows[-1]
        assert rows[-1]["gradient_steps"] > 0
        assert all(row["train_seconds"] >= 0 for row in rows)

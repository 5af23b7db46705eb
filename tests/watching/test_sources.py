"""Whose policy is watched: runs, SB3's files, the random policy and a person, each as in training; refusals."""

from __future__ import annotations

import numpy as np
import pytest

import rl_lab
from rl_lab.environments.vectors import SingleVector
from rl_lab.runs.description import read_description
from rl_lab.seeding import seed_of
from rl_lab.training.loading import kept_steps, read_weights
from rl_lab.types import UsageError
from rl_lab.watching.sources import Environment, ModelFile, Watched, watched
from runs import learn

CARTPOLE = Environment("CartPole-v1")


def played(watched: Watched, seed: int, steps: int = 200) -> tuple[float, list]:
    """The return and the actions of one episode of at most so many steps."""
    envs = SingleVector(watched.make())
    policy = watched.policy
    obs, _ = envs.reset(seed=[seed])
    state, first, total, actions = policy.initial_state(1), np.ones(1, bool), 0.0, []
    for _ in range(steps):
        decision = policy.act(obs, state, first)
        obs, reward, terminated, truncated, _ = envs.step(decision.action)
        state, first = decision.state, terminated | truncated
        total, actions = total + float(reward[0]), [*actions, decision.action[0].tolist()]
        if first[0]:
            break
    envs.close()
    return total, actions


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of Q-learning with several checkpoints kept."""
    folder = tmp_path_factory.mktemp("run")
    fields = {"total_steps": 400, "checkpoint_every_steps": 100, "keep_checkpoints": 9, "keep_best": 0}
    learn(folder, "q-learning", "FrozenLake-v1", env_kwargs={"is_slippery": False}, **fields)
    return folder


class TestRun:
    def test_plays_the_evaluation_episode_of_the_run(self, run_dir):
        found = watched(run_dir)
        with_returns = rl_lab.evaluate(
            rl_lab.load_policy(run_dir),
            rl_lab.make_envs("FrozenLake-v1", env_kwargs={"is_slippery": False}),
            episodes=1,
            seed=0,
        )
        assert played(found, seed_of(0, "eval", 0))[0] == with_returns.returns[0]
        assert found.label == "q-learning on FrozenLake-v1"
        assert found.note == "the last checkpoint, at step 400"
        assert found.folder == run_dir
        assert found.config == read_description(run_dir).config
        assert found.problem.model is not None

    def test_a_kept_checkpoint_has_the_weights_of_its_step(self, tmp_path, run_dir):
        shorter = learn(tmp_path, "q-learning", "FrozenLake-v1", env_kwargs={"is_slippery": False}, total_steps=400,
                        checkpoint_every_steps=100, stop_at=200)  # fmt: skip
        assert shorter.summary is None
        assert kept_steps(run_dir) == [100, 200, 300, 400]
        then, now = (read_weights(folder, at_step=200)["q"] for folder in (tmp_path, run_dir))
        assert np.array_equal(then, now)
        assert not np.array_equal(now, read_weights(run_dir, at_step=400)["q"])
        found = watched(run_dir, at_step=200)
        assert found.note == "the checkpoint at step 200"
        obs, state, first = np.arange(16), (), np.ones(16, bool)
        assert np.array_equal(found.policy.inspect(obs, state, first)["q_values"], then)

    def test_a_checkpoint_that_is_not_kept_is_refused_with_those_that_are(self, run_dir):
        with pytest.raises(UsageError, match=r"no checkpoint at step 150 \(allowed: 100, 200, 300, 400\)"):
            watched(run_dir, at_step=150)

    def test_one_checkpoint_is_not_two(self, run_dir):
        with pytest.raises(UsageError, match=r"at_step 200 is one checkpoint, best another"):
            watched(run_dir, at_step=200, best=True)

    def test_the_environment_is_the_run_s_own(self, run_dir):
        with pytest.raises(UsageError, match="has an environment of its own"):
            watched(run_dir, environment=CARTPOLE)
        with pytest.raises(UsageError, match="is no model file"):
            watched(run_dir, model_file=ModelFile(trust_pickles=True))


class TestWords:
    def test_random_draws_actions_of_the_space(self):
        found = watched("random", environment=CARTPOLE)
        total, actions = played(found, 3)
        assert set(actions) == {0, 1}
        assert total == len(actions)
        assert found.label == "random on CartPole-v1"
        assert found.folder is None

    def test_another_seed_draws_other_actions(self):
        drawn = [
            played(watched("random", environment=Environment("CartPole-v1", seed=seed)), 3)[1]
            for seed in (0, 1)
        ]
        assert drawn[0] != drawn[1]

    def test_arguments_of_the_environment_reach_it(self):
        given = Environment("FrozenLake-v1", {"map_name": "8x8"})
        assert watched("random", environment=given).problem.spec.observation_space.n == 64

    def test_a_person_s_action_is_repeated_until_released(self):
        found = watched("human", environment=CARTPOLE)
        assert set(played(found, 0)[1]) == {0}
        found.policy.press(1)
        assert set(played(found, 0)[1]) == {1}
        found.policy.release()
        assert set(played(found, 0)[1]) == {0}
        assert found.label == "human on CartPole-v1"

    @pytest.mark.parametrize("action", [2, -1, "up", 0.5, [0, 1], None])
    def test_an_action_that_is_none_is_refused(self, action):
        found = watched("human", environment=CARTPOLE)
        with pytest.raises(UsageError, match="is not of Discrete"):
            found.policy.press(action)
        assert set(played(found, 0)[1]) == {0}

    def test_a_person_s_continuous_action_is_of_the_space(self):
        policy = watched("human", environment=Environment("Pendulum-v1")).policy
        ask = (np.zeros((2, 3)), (), np.ones(2, bool))
        assert policy.act(*ask).action.tolist() == [[0.0], [0.0]]
        policy.press([1.5])
        assert policy.act(*ask).action.tolist() == [[1.5], [1.5]]
        assert policy.act(*ask).action.dtype == np.float32

    def test_a_person_acts_legally(self):
        policy = watched("human", environment=CARTPOLE).policy
        masks = np.array([[False, True], [True, True]])
        assert policy.act(np.zeros((2, 4)), (), np.ones(2, bool), masks).action.tolist() == [1, 0]

    @pytest.mark.parametrize("word", ["random", "human"])
    def test_words_need_an_environment_and_have_no_checkpoints(self, word):
        with pytest.raises(UsageError, match="--env-id"):
            watched(word)
        with pytest.raises(UsageError, match="without --best"):
            watched(word, environment=CARTPOLE, best=True)
        with pytest.raises(UsageError, match="no checkpoint 7"):
            watched(word, environment=CARTPOLE, at_step=7)
        with pytest.raises(UsageError, match="is no model file"):
            watched(word, environment=CARTPOLE, model_file=ModelFile("dqn"))

    def test_a_run_directory_called_random_is_meant_by_its_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        learn(tmp_path / "random", "q-learning", "FrozenLake-v1", total_steps=20)
        assert watched("./random").label == "q-learning on FrozenLake-v1"

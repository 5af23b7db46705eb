"""Recurrent DQN: priorities of windows, fields that reach what they govern, mazes to remember."""

from __future__ import annotations

import dataclasses
import re
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rl_lab
from rl_lab.agents.dqn import Config
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.seeding import EpisodeSeeds
from rl_lab.training.loop import start, train
from rl_lab.types import UsageError
from rl_lab.updates.td import RESCALED, select
from rl_lab.updates.td_windows import WindowedTDLoss, mixed_priorities
from runs import SMALL_DQN, learn
from toys import CueRecall, Unaware, agent_on, interact, problem_on, sample, vector
from worlds import CARRY, World, filled


def pohlen_inverse(x):
    root = np.sqrt(1 + 4e-3 * (np.abs(x) + 1 + 1e-3))
    return np.sign(x) * (((root - 1) / 2e-3) ** 2 - 1)


WINDOWS = {"memory": "gru", "sequence_length": 8, "burn_in_steps": 3}
NOT_NEW = [
    (
        WINDOWS | {"n_steps": 6},
        "n_steps 6 must be at most sequence_length 8 - burn_in_steps 3 = 5, since returns end with their window",
    ),
    (
        {"n_steps": 33, "replay_capacity": 32, "batch_size": 4},
        "n_steps 33 must be at most replay_capacity 32",
    ),
    (
        {"heads": 2, "value_rescaling": True},
        "heads 2 and value_rescaling exclude each other: the mean over heads is one of values in units of reward",
    ),
]


@pytest.mark.parametrize(("fields", "says"), NOT_NEW)
def test_what_older_runs_may_hold_is_refused_for_new_ones(fields, says, tmp_path, monkeypatch):
    run = tmp_path / "run"
    given = SMALL_DQN | {"total_steps": 40, "eval_episodes": 0, "epsilon_fraction": 0.0} | fields
    with pytest.raises(UsageError, match=f"^{re.escape(says)}$"):
        learn(run, "dqn", "CartPole-v1", **given)
    assert not run.exists()
    with monkeypatch.context() as older:
        older.setattr(Config, "refuse_new", lambda config: None)
        learn(run, "dqn", "CartPole-v1", **given)
    assert rl_lab.load_policy(run) is not None
    assert rl_lab.resume(run, total_steps=60, progress=False).summary["env_steps"] == 60


def test_what_a_window_or_the_replay_holds_is_accepted():
    for fields in (WINDOWS | {"n_steps": 5}, {"n_steps": 64, "replay_capacity": 64}, {"heads": 2}):
        assert Config(**fields).refuse_new() is None


class TestPriorities:
    def test_mix_the_largest_and_the_mean_of_what_is_learned(self):
        errors = np.array([[9.0, -1.0], [1.0, 3.0], [-4.0, 2.0], [1.0, 7.0]])
        learned = np.array([[0, 1], [1, 1], [1, 1], [1, 0]], np.bool_)
        found = mixed_priorities(errors, learned, 0.9)
        np.testing.assert_allclose(found, [0.9 * 4 + 0.1 * 2, 0.9 * 3 + 0.1 * 2])
        np.testing.assert_allclose(mixed_priorities(errors, learned, 0.0), [2, 2])
        np.testing.assert_allclose(mixed_priorities(errors, learned, 1.0), [4, 3])

    def test_of_windows_follow_a_gradient_step(self):
        problem = problem_on(CueRecall, num_envs=2, total_steps=60)
        agent = agent_on(
            problem, memory="lstm", prioritised=True, sequence_length=4, burn_in_steps=1, n_steps=2,
            priority_eta=0.7, priority_alpha=0.5, learning_starts_env_steps=60, batch_size=8,
        )  # fmt: skip
        interact(agent, problem)
        drawn = sample(agent)
        batch = agent.updates.loss.batch(drawn, agent.config.batch_size, torch.as_tensor)
        with torch.no_grad():
            one = select(agent.updates.loss.add_next_values(agent.target.network, batch), 0)
            _, q, target = agent.updates.loss(agent.trained.network, one)
        agent.learn(drawn)
        leaves = agent.buffer.replay._sampler.tree.leaves
        for b, index in enumerate(drawn.index):
            size = (target - q)[:, b].abs().numpy()[drawn.learned[:, b]]
            assert leaves[index] == pytest.approx(
                (0.7 * size.max() + 0.3 * size.mean() + 1e-6) ** 0.5, abs=1e-5
            )

    def test_figures_leave_out_what_is_not_learned_from(self):
        problem = problem_on(CueRecall, num_envs=2, total_steps=60)
        agent = agent_on(
            problem, memory="lstm", sequence_length=6, burn_in_steps=1, learning_starts_env_steps=60
        )
        interact(agent, problem)
        drawn = sample(agent)
        outcome = agent.learn(drawn)
        assert outcome.prediction.shape == outcome.target.shape == (1, drawn.learned.sum())
        assert drawn.learned.sum() < drawn.valid.sum() < drawn.valid.size


class TestPrioritisedWindows:
    def filled(self, alpha=1.0, **fields):
        world = World(2, 4, mean_length=6)
        replay = SequenceReplay(80, world.spec(), CARRY, 4, sampler=Prioritised(alpha), **fields)
        return replay, filled(replay, world, 70, 80)

    @pytest.mark.parametrize("fields", [{}, {"period": 3}, {"period": 2, "burn_in": 2}])
    def test_draws_follow_the_priorities(self, fields):
        replay, _ = self.filled(**fields)
        every = np.unique(replay.sample(4_000, np.random.default_rng(0)).index)
        priority = 1.0 + np.arange(len(every)) % 7
        replay.update_priorities(every, priority)
        drawn = replay.sample(20_000, np.random.default_rng(0), 1.0)
        share = np.array([(drawn.index == k).mean() for k in every])
        np.testing.assert_allclose(share, priority / priority.sum(), atol=2e-3)
        for b in range(20):
            k = np.flatnonzero(every == drawn.index[b])[0]
            assert drawn.weight[b] == pytest.approx(1 / priority[k], rel=1e-4)

    def test_a_new_window_has_the_largest_priority_and_only_once_it_is_whole(self):
        world = World(1, 0, mean_length=50)
        replay = SequenceReplay(30, world.spec(), CARRY, 4, sampler=Prioritised(1.0))
        for written in range(1, 25):
            replay.add(world.step())
            leaves = replay._sampler.tree.leaves
            assert np.count_nonzero(leaves) == max(0, written - 3)
            if written == 10:
                replay.update_priorities(np.array([2]), np.array([5.0]))
            if written > 10:
                assert leaves[written - 4] == pytest.approx(5.0)

    def test_priorities_of_windows_that_are_gone_or_not_whole_are_left_alone(self):
        replay, _ = self.filled(period=2)
        before = replay._sampler.tree.leaves.copy()
        replay.update_priorities(np.flatnonzero(before == 0), np.full((before == 0).sum(), 9.0))
        np.testing.assert_array_equal(replay._sampler.tree.leaves, before)


class TestConfig:
    def test_each_field_reaches_what_it_governs(self):
        fields = {
            "memory": "lstm", "sequence_length": 12, "sequence_period_steps": 4, "burn_in_steps": 5,
            "prioritised": True, "priority_alpha": 0.9, "priority_eta": 0.8, "value_rescaling": True, "double": True,
            "gamma": 0.9, "n_steps": 4,
        }  # fmt: skip
        agent = agent_on(problem_on(CueRecall, total_steps=60), **fields, replay_capacity=50)
        interact(agent, problem_on(CueRecall, total_steps=30))
        assert (agent.buffer.replay.length, agent.buffer.replay.period, agent.buffer.replay.burn_in) == (
            12,
            4,
            5,
        )
        assert agent.buffer.replay._sampler.alpha == 0.9
        assert agent.updates.loss == WindowedTDLoss(True, "huber", RESCALED, 5, 0.9, 4, 0.8)
        assert Config().priority_eta == 0.9

    @pytest.mark.parametrize("memory", ["none", "lstm"])
    def test_values_are_shown_in_rewards_whatever_the_network_s_scale(self, memory):
        problem = problem_on(CueRecall)
        plain, scaled = (agent_on(problem, memory=memory, value_rescaling=flag) for flag in (False, True))
        obs, first = np.eye(5, dtype=np.float32), np.ones(5, np.bool_)
        acting = [agent.policy(explore=False) for agent in (plain, scaled)]
        shown = [p.inspect(obs, p.initial_state(5), first)["q_values"] for p in acting]
        np.testing.assert_allclose(shown[1], pohlen_inverse(shown[0].astype(np.float64)), atol=1e-6)

    def test_a_reward_that_is_always_the_same_is_worth_that_of_eternity_in_any_scale(self):
        from toys import ConstantReward

        problem = problem_on(ConstantReward, total_steps=1_500)
        agent = agent_on(
            problem, gamma=0.8, learning_rate=3e-3, learning_starts_env_steps=50, target_period_env_steps=20,
            hidden=(16,), batch_size=32, value_rescaling=True,
        )  # fmt: skip
        acting = interact(agent, problem).policy(explore=False)
        found = acting.inspect(np.zeros((1, 1), np.float32), (), np.ones(1, np.bool_))["q_values"]
        np.testing.assert_allclose(found, 5.0, atol=0.1)


class TMaze(gymnasium.Env):
    """Tells in the first room whether to turn left or right behind a corridor, by a light that is on or off.

    Nothing but the light tells an episode's beginning, and nothing its end: the last action is the turn.
    Optimal: 1. Without memory: 0.5. The corridor has `length` steps, give or take up to `spread`.
    """

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int, spread: int = 0):
        self.length, self.spread = length, spread

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.light = int(self.np_random.integers(2))
        self.left = self.length + int(self.np_random.integers(-self.spread, self.spread + 1))
        return np.array([self.light], np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return np.zeros(1, np.float32), float(over and action == self.light), over, False, {}


FIELDS = {
    "gamma": 0.95, "learning_rate": 3e-3, "learning_starts_env_steps": 400, "train_period_env_steps": 8,
    "target_period_env_steps": 200, "batch_size": 32, "hidden": (16,), "memory_size": 16, "double": True,
    "dueling": True, "prioritised": True, "n_steps": 3, "epsilon_final": 0.02,
}  # fmt: skip
R2D2 = {"sequence_length": 12, "burn_in_steps": 4, "sequence_period_steps": 4, "value_rescaling": True}


def score(policy, make, episodes=200):
    return evaluate(policy, vector(make, 4), episodes=episodes, seed=1).returns.mean()


def learned(make, steps, seed=0, **fields):
    problem = problem_on(make, num_envs=4, total_steps=steps, seed=seed)
    return interact(agent_on(problem, **FIELDS | fields), problem).policy(explore=False)


def learned_unaware(make, steps, **fields):
    """Learn with the reset mask withheld, in acting and learning alike."""
    problem = problem_on(make, num_envs=4, total_steps=steps)
    agent, envs = agent_on(problem, **FIELDS | fields), vector(make, 4)
    observe, acting = agent.observe, Unaware(agent.policy(explore=True))
    agent.observe = lambda step: observe(dataclasses.replace(step, is_first=np.zeros_like(step.is_first)))
    seeds = EpisodeSeeds(problem.seed, 4)
    for _ in train(agent, acting, envs, seeds, steps, start(acting, envs, seeds)):
        pass
    return Unaware(agent.policy(explore=False))


class TestLearning:
    @pytest.mark.long
    def test_a_cue_is_recalled_with_everything_on(self):
        fields = {"memory": "lstm", "sequence_length": 3, "value_rescaling": True}
        assert score(learned(CueRecall, 6_000, **fields), CueRecall) >= 0.95

    @pytest.mark.long
    def test_where_episodes_begin_must_be_told(self):
        """Corridors of 1 to 11 steps: who isn't told can at best trust any light of the last 11 steps, for 0.87."""
        maze, fields = partial(TMaze, 6, 5), {"sequence_length": 10, "sequence_period_steps": 5}
        assert score(learned(maze, 7_000, memory="lstm", **fields), maze) >= 0.95
        assert score(learned_unaware(maze, 7_000, memory="lstm", **fields), maze, 600) < 0.91

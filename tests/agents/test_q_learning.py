"""Tabular Q-learning: its arithmetic by hand, and the optimum of a maze that is known exactly."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from rl_lab.agents.q_learning import Config, QLearning
from rl_lab.evaluation.exact import exact_figures
from rl_lab.seeding import Streams
from rl_lab.types import Step
from toys import Identity, interact, problem_on


def table_agent(num_envs: int = 1, **fields) -> QLearning:
    problem = problem_on(lambda: Identity(3), num_envs=num_envs)
    fields = {"learning_rate": 0.5, "learning_rate_final": 0.5, "gamma": 0.5} | fields
    agent = QLearning(Config(**fields), problem, Streams(0))
    agent.q[...] = [[1, 2, 3], [10, 20, 30], [0, 0, 0]]
    return agent


def step(obs, action, reward, terminated, next_obs, next_mask=None) -> Step:
    no = np.zeros(len(obs), np.bool_)
    return Step(
        np.array(obs), np.array(action), np.array(reward, float), np.array(terminated, bool), ~no,
        np.array(next_obs), no, (), (), None, next_mask,
    )  # fmt: skip


def learned(agent, *steps):
    for one in steps:
        agent.observe(one)
        agent.update()
    return agent.q


@pytest.mark.parametrize(
    ("terminated", "mask", "value"),
    [
        (False, None, 1 + 0.5 * (4 + 0.5 * 30 - 1)),  # truncated, as every step here: the bootstrap stays
        (True, None, 1 + 0.5 * (4 - 1)),
        (False, [[True, False, False]], 1 + 0.5 * (4 + 0.5 * 10 - 1)),
    ],
)
def test_one_update_equals_that_computed_by_hand(terminated, mask, value):
    q = learned(
        table_agent(), step([0], [0], [4], [terminated], [1], None if mask is None else np.array(mask))
    )
    assert q.tolist() == [[value, 2, 3], [10, 20, 30], [0, 0, 0]]


def test_environments_on_one_entry_add_up():
    q = learned(table_agent(2), step([2, 2], [1, 1], [4, 8], [True, True], [0, 0]))
    assert q[2].tolist() == [0, 0.5 * 4 + 0.5 * 8, 0]


@pytest.mark.parametrize("reward", [float("nan"), float("inf")])
def test_a_reward_that_is_not_finite_raises_and_leaves_the_table(reward):
    agent = table_agent()
    before = agent.q.copy()
    with pytest.raises(FloatingPointError):
        learned(agent, step([0], [0], [reward], [False], [1]))
    np.testing.assert_array_equal(agent.q, before)


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_optimum_of_frozen_lake_is_found(num_envs):
    problem = problem_on(
        lambda: gymnasium.make("FrozenLake-v1", is_slippery=False), num_envs=num_envs, total_steps=10_000
    )
    agent = interact(QLearning(Config(gamma=0.9), problem, Streams(0)), problem)
    found = exact_figures(agent.policy(explore=False), problem.model, 0.9, 100, 4)
    assert found["regret"] == pytest.approx(0.0, abs=1e-9)

"""Q-learning in a single environment works on numbers alone: to the bit what it does on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from learners import table_agent
from rl_lab.agents.tabular.acting import Alone
from rl_lab.policies import EpsilonGreedy, ValuePolicy, random_tie
from rl_lab.types import Step
from toys import Identity, problem_on

STATES, ACTIONS, ALL = 5, 5, np.ones((1, 5), np.bool_)


def agents(**fields):
    """Two equal agents with a table of random values, some of them equal."""
    made = [table_agent("q-learning", problem_on(lambda: Identity(STATES)), **fields) for _ in range(2)]
    for agent in made:
        agent.q[...] = np.random.default_rng(1).integers(-3, 4, agent.q.shape) / 7
    return made


def steps(mask, count=200):
    rng = np.random.default_rng(2)
    for _ in range(count):
        state, action, after = rng.integers(STATES, size=(3, 1))
        reward, ends = rng.normal(size=1), rng.random((2, 1)) < 0.2
        yield Step(state, action, reward, *ends, after, ends[0], (), (), mask, mask)


@pytest.mark.parametrize("step_size", ["linear", "1/n", "n^-w"])
def test_learns_what_arrays_learn(step_size):
    """With a mask in which all actions are legal, the way of arrays is taken."""
    alone, arrays = agents(step_size=step_size, gamma=0.9)
    for plain, masked in zip(steps(None), steps(ALL), strict=True):
        found = []
        for agent, step in ((alone, plain), (arrays, masked)):
            agent.observe(step)
            found.append(agent.update())
        assert found[0] == found[1]
    assert alone.q.tobytes() == arrays.q.tobytes()
    assert alone.tables.visits.tobytes() == arrays.tables.visits.tobytes()
    assert alone.gradient_steps == arrays.gradient_steps == 200
    assert alone.update() is None  # nothing has been observed since


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_not_finite_leaves_the_table_as_it_was(reward):
    agent, _ = agents()
    before = agent.q.copy()
    one = next(steps(None))
    one.reward = np.array([reward])
    agent.observe(one)
    with pytest.raises(FloatingPointError, match=f"reward \\[{reward}\\] at env step 1"):
        agent.update()
    assert agent.q.tobytes() == before.tobytes()


def test_values_that_have_become_too_large_are_told():
    agent, _ = agents()
    agent.q[...] = -1.7e308
    one = next(steps(None))
    one.reward, one.terminated = np.array([1.7e308]), np.array([True])
    agent.observe(one)
    with pytest.raises(FloatingPointError, match="temporal-difference error inf at env step 1"):
        agent.update()


@pytest.mark.parametrize("first", [0, 4])
def test_actions_and_states_that_begin_elsewhere_find_their_rows(first):
    class Shifted(Identity):
        def __init__(self):
            self.observation_space = spaces.Discrete(3, start=first)
            self.action_space = spaces.Discrete(3, start=first)

        def reset(self, *, seed=None, options=None):
            return first, {}

    agent = table_agent(
        "q-learning", problem_on(Shifted), learning_rate=0.5, learning_rate_final=0.5, gamma=0.5
    )
    agent.q[...] = [[1, 2, 3], [10, 20, 30], [0, 0, 0]]
    no = np.zeros(1, np.bool_)
    agent.observe(
        Step(
            np.array([first]), np.array([first + 2]), np.ones(1), no, no, np.array([first + 1]), no, (), (), None, None
        )
    )  # fmt: skip
    agent.update()
    assert agent.q.tolist() == [[1, 2, 3 + 0.5 * (1 + 0.5 * 30 - 3)], [10, 20, 30], [0, 0, 0]]


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_acts_as_the_policy_over_arrays_from_the_same_draws(epsilon):
    q = np.random.default_rng(3).integers(0, 2, (STATES, ACTIONS)).astype(float)  # many ties
    plain_rng, own_rng = np.random.default_rng(4), np.random.default_rng(4)

    def policy(rng):
        exploring = EpsilonGreedy(rng, lambda: epsilon, random_tie(rng))
        return ValuePolicy(lambda obs, state, is_first: (q[obs], ()), ACTIONS, explore=exploring)

    plain = policy(plain_rng)
    alone = Alone(policy(own_rng), q, lambda obs: obs, lambda: epsilon, own_rng)
    first = np.zeros(1, np.bool_)
    for k in range(200):
        obs, mask = np.array([k % STATES]), None if k % 3 else np.arange(ACTIONS)[None] != k % ACTIONS
        found = [each.act(obs, (), first, mask).action for each in (plain, alone)]
        assert found[0].dtype == found[1].dtype == np.int64
        assert found[0].tolist() == found[1].tolist()
    several = [each.act(np.arange(3), (), np.zeros(3, np.bool_)).action.tolist() for each in (plain, alone)]
    assert several[0] == several[1]
    assert plain_rng.bit_generator.state == own_rng.bit_generator.state

"""Tabular agents in the common loop: their arithmetic by hand, what they save, and optima that are known exactly."""

from __future__ import annotations

import copy
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from learners import NAMES, learner, table_agent
from rl_lab.agents.tabular.bins import count_bins, make_bin_of
from rl_lab.envs.sutton_barto.random_walk import RandomWalk
from rl_lab.evaluation.exact import action_probabilities, exact_figures
from rl_lab.policies import for_episode
from rl_lab.seeding import EpisodeSeeds, Streams
from rl_lab.training.loop import start, train
from rl_lab.training.registry import make_learner
from rl_lab.types import Step, UsageError
from toys import Identity, Masked, interact, problem_on, spec_of


def identity_agent(name: str = "q-learning", num_envs: int = 1, **fields):
    problem = problem_on(lambda: Identity(3), num_envs=num_envs)
    fields = {"learning_rate": 0.5, "learning_rate_final": 0.5, "gamma": 0.5} | fields
    agent = table_agent(name, problem, **fields)
    agent.q[...] = [[1, 2, 3], [10, 20, 30], [0, 0, 0]]
    agent.rule.load_state_dict({})
    return agent


def step(
    obs, action, reward, terminated, next_obs, next_mask=None, *, truncated=True, is_first=False
) -> Step:
    flags = np.full(len(obs), True)
    return Step(
        np.array(obs), np.array(action), np.array(reward, float), np.array(terminated, bool), flags & truncated,
        np.array(next_obs), flags & is_first, (), (), None, next_mask,
    )  # fmt: skip


def learned(agent, *steps):
    for one in steps:
        agent.observe(one)
        agent.update()
    return agent.q


class TestOneStep:
    @pytest.mark.parametrize(
        ("terminated", "mask", "value"),
        [
            (False, None, 1 + 0.5 * (4 + 0.5 * 30 - 1)),  # truncated, as every step here: the bootstrap stays
            (True, None, 1 + 0.5 * (4 - 1)),
            (False, [[True, False, False]], 1 + 0.5 * (4 + 0.5 * 10 - 1)),
        ],
    )
    def test_of_q_learning_equals_that_computed_by_hand(self, terminated, mask, value):
        agent = identity_agent()
        one = step([0], [0], [4], [terminated], [1], None if mask is None else np.array(mask))
        assert learned(agent, one).tolist() == [[value, 2, 3], [10, 20, 30], [0, 0, 0]]

    def test_of_double_q_learning_moves_one_table_by_the_other(self):
        agent = identity_agent("double-q-learning")
        first, second = agent.state_dict()["rule"]["first"], agent.state_dict()["rule"]["second"]
        second[1] = [7, 8, 6]
        agent.tables = copy.copy(agent.tables)
        object.__setattr__(agent.rule._tables, "draws", lambda shape: np.zeros(shape))
        learned(agent, step([0], [0], [4], [False], [1]))
        assert first[0, 0] == 1 + 0.5 * (4 + 0.5 * 6 - 1)  # the first chooses action 2, the second values it
        assert second[0, 0] == 1
        assert agent.q[0, 0] == (first[0, 0] + 1) / 2
        object.__setattr__(agent.rule._tables, "draws", lambda shape: np.ones(shape) - 1e-9)
        learned(agent, step([0], [1], [4], [False], [1]))
        assert second[0, 1] == 2 + 0.5 * (4 + 0.5 * 20 - 2)
        assert first[0, 1] == 2

    @pytest.mark.parametrize("name", ["expected-sarsa", "sarsa", "n-step-sarsa", "sarsa-lambda"])
    def test_of_on_policy_rules_bootstraps_from_the_mean_where_a_time_limit_cuts(self, name):
        q = learned(
            identity_agent(name, epsilon_initial=0.3, epsilon_final=0.3), step([0], [0], [4], [False], [1])
        )
        assert q[0, 0] == pytest.approx(1 + 0.5 * (4 + 0.5 * (0.3 * 20 + 0.7 * 30) - 1))

    def test_of_sarsa_waits_for_the_next_action(self):
        agent = identity_agent("sarsa")
        assert learned(agent, step([0], [0], [4], [False], [1], truncated=False))[0, 0] == 1
        q = learned(agent, step([1], [0], [4], [True], [2], truncated=False))
        assert q[0, 0] == 1 + 0.5 * (4 + 0.5 * 10 - 1)
        assert q[1, 0] == 10 + 0.5 * (4 - 10)

    def test_environments_on_one_entry_add_up(self):
        q = learned(identity_agent(num_envs=2), step([2, 2], [1, 1], [4, 8], [True, True], [0, 0]))
        assert q[2].tolist() == [0, 0.5 * 4 + 0.5 * 8, 0]

    @pytest.mark.parametrize("reward", [float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["q-learning", "sarsa", "dyna-q"])
    def test_with_a_reward_that_is_not_finite_raises_and_leaves_the_table(self, name, reward):
        agent = identity_agent(name)
        before = agent.q.copy()
        with pytest.raises(FloatingPointError):
            learned(agent, step([0], [0], [reward], [False], [1]))
        np.testing.assert_array_equal(agent.q, before)

    @pytest.mark.parametrize(("schedule", "second"), [("1/n", 1 / 2), ("n^-w", 2**-0.6)])
    def test_sizes_fall_with_the_updates_of_each_entry(self, schedule, second):
        agent = identity_agent(step_size=schedule, step_size_power=0.6)
        q = learned(agent, step([0], [0], [4], [True], [1]))
        assert q[0, 0] == 4
        q = learned(agent, step([0], [0], [8], [True], [1]), step([0], [1], [6], [True], [1]))
        assert q[0, :2].tolist() == pytest.approx([4 + second * (8 - 4), 6])


# What is learned in the loop, and saved -----------------------------------------------------------------

SETTINGS = {name: [{}] for name in NAMES} | {
    "q-learning": [{}, {"exploration": "ucb", "step_size": "1/n"}, {"exploration": "boltzmann"}],
    "tree-backup": [{"target": "behaviour", "exploration": "boltzmann"}],
    "q-lambda": [{"traces": "dutch"}],
    "learned-prioritised-sweeping": [{"model_outcomes": 2}],
    "monte-carlo": [{}, {"first_visit": True, "exploration": "ucb"}],
}
CASES = [(name, fields) for name in NAMES for fields in SETTINGS[name]]


def stretch(agent, streams, problem, at, envs, seeds, steps):
    """Let an agent learn for some more steps; return where the loop stands."""
    loop = train(agent, agent.policy(explore=True), envs, seeds, at.env_steps + steps, at)
    return [cursor for _, _, cursor in loop][-1]


@pytest.mark.parametrize(("name", "fields"), CASES)
def test_what_is_saved_goes_on_as_if_nothing_had_happened(name, fields):
    """On masks and three environments, whose episodes are open at the save."""
    problem = problem_on(Masked, num_envs=3, total_steps=240)
    streams, envs, seeds = Streams(0), problem.make(3), EpisodeSeeds(0, 3)
    agent = table_agent(name, problem, streams, **fields)
    at = stretch(agent, streams, problem, start(agent.policy(explore=True), envs, seeds), envs, seeds, 102)
    saved = copy.deepcopy((agent.state_dict(), streams.state_dict(), envs, seeds))
    stretch(agent, streams, problem, at, envs, seeds, 102)
    state, drawn, envs, seeds = saved
    fresh = Streams(0)
    other = table_agent(name, problem, fresh, **fields)
    other.load_state_dict(state)
    fresh.load_state_dict(drawn)
    stretch(other, fresh, problem, at, envs, seeds, 102)
    before, after = agent.state_dict(), other.state_dict()
    assert not np.array_equal(before["weights"]["q"], state["weights"]["q"])
    np.testing.assert_equal(after, before)


def test_only_learning_loads_machine_code():
    lines = (
        "import gymnasium, sys; from toys import problem_on; from learners import table_agent;"
        "problem = problem_on(lambda: gymnasium.make('FrozenLake-v1'), total_steps=10**7);"
        "agent = table_agent('sarsa-lambda', problem); print('numba' in sys.modules)"
    )
    support = Path(__file__).parents[1] / "support"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(support), *sys.path])}
    done = subprocess.run([sys.executable, "-c", lines], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize("name", NAMES)
def test_learning_reaches_the_optimum_of_the_masked_identity(name):
    """Where the right action alone is rewarded; masks are kept to, or the environment would complain."""
    if name == "td-prediction":
        return
    problem = problem_on(Masked, total_steps=600)
    agent = interact(table_agent(name, problem, gamma=0.0, epsilon_final=0.3), problem)
    assert agent.q.argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_optimum_of_frozen_lake_is_found(num_envs):
    problem = problem_on(
        lambda: gymnasium.make("FrozenLake-v1", is_slippery=False), num_envs=num_envs, total_steps=10_000
    )
    agent = interact(table_agent("q-learning", problem, gamma=0.9), problem)
    found = exact_figures(agent.policy(explore=False), problem.model, 0.9, 100, 4)
    assert found["regret"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("trace_decay", [0.0, 0.8])
def test_prediction_finds_the_values_of_the_random_walk(trace_decay):
    """Example 6.2 of Sutton & Barto: k / 6 in the k-th of five states."""
    problem = problem_on(RandomWalk, total_steps=6_000)
    fields = {"gamma": 1.0, "step_size": "n^-w", "initial_value": 0.5, "trace_decay": trace_decay}
    agent = interact(table_agent("td-prediction", problem, **fields), problem)
    assert agent.q[1:6, 0] == pytest.approx(np.arange(1, 6) / 6, abs=0.05)
    policy = agent.policy(explore=False)
    assert (action_probabilities(policy, problem.model, 4) == 1.0).all()
    shown = policy.inspect(np.array([3]), (), np.array([True]))
    assert shown["value"][0] == agent.q[3, 0]


@pytest.mark.parametrize("first", [0, 1])
def test_watched_episodes_of_a_prediction_follow_from_their_seeds(first):
    problem = problem_on(lambda: gymnasium.make("FrozenLake-v1"))
    problem.spec.action_space.start = np.int64(first)
    policy = table_agent("td-prediction", problem).policy(explore=False)

    def drawn(seed: int) -> list[int]:
        playing, found = for_episode(policy, seed), []
        state = playing.initial_state(1)
        for _ in range(20):
            found += playing.act(np.array([0]), state, np.array([False])).action.tolist()
        return found

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(drawn(1)) == {first, first + 1, first + 2, first + 3}


# Observations -------------------------------------------------------------------------------------------


class Shows(gymnasium.Env):
    """Shows draws of a space, and rewards nothing; ten steps."""

    action_space = spaces.Discrete(2, start=5)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert action in (5, 6)
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps == 10, {}


FINITE = {
    "Discrete from -2": (spaces.Discrete(5, start=-2), 5),
    "MultiDiscrete": (spaces.MultiDiscrete([[2, 3], [4, 1]]), 24),
    "Tuple": (spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2))), 12),
    "Dict": (spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple((spaces.Discrete(3),))}), 6),
}


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("kind", FINITE)
def test_every_finite_observation_has_a_row_of_its_own(kind, num_envs):
    space, rows = FINITE[kind]
    problem = problem_on(lambda: Shows(space), num_envs=num_envs, total_steps=1_000)
    agent = interact(table_agent("q-learning", problem, gamma=0.0), problem)
    assert agent.q.shape == (rows, 2)
    assert np.count_nonzero(agent.q) > 1.8 * rows


def test_blackjack_is_taken_as_it_is():
    problem = problem_on(lambda: gymnasium.make("Blackjack-v1"), total_steps=300)
    assert interact(table_agent("sarsa", problem), problem).q.shape == (32 * 11 * 2, 2)


@pytest.mark.parametrize(
    ("name", "fields", "num_envs", "words"),
    [
        (
            "n-step-sarsa",
            {"n_steps": 10**13},
            1,
            "10000000000000 remembered steps, of n_steps 10000000000000",
        ),
        ("tree-backup", {"n_steps": 10**7}, 6, "60000000 remembered steps"),
        ("dyna-q", {"planning_steps": 10**13}, 1, "imagined steps at once, of planning_steps 10000000000000"),
        ("q-lambda", {"trace_decay": 1.0, "gamma": 1.0}, 10**6, "64000000 traces, of trace_decay 1.0"),
        ("td-prediction", {"trace_decay": 1.0, "gamma": 1.0}, 10**6, None),
        ("q-learning", {}, 10**8, None),
        ("learned-prioritised-sweeping", {"planning_steps": 10**13}, 1, None),
    ],
)
def test_rules_that_would_need_too_much_memory_are_refused_in_a_line(name, fields, num_envs, words):
    problem = problem_on(lambda: gymnasium.make("FrozenLake-v1"))
    reason = learner(name, **fields).refuse(dataclasses.replace(problem, num_envs=num_envs))
    if words is None:
        assert reason is None
    else:
        assert words in reason
        assert reason.endswith(f"and num_envs {num_envs} (allowed: up to 50000000)")


class TestBins:
    BOX = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, np.inf]), dtype=np.float64)

    @pytest.mark.parametrize(
        ("obs", "row"),
        [((-1.0, 0.0), 0), ((-0.01, 9.9), 2), ((0.0, 0.0), 3), ((5.0, 11.0), 5), ((-3, -3), 0)],
    )
    def test_number_the_boxes_and_take_in_what_lies_beyond(self, obs, row):
        fields = (2, 3), (-1.0, 0.0), (1.0, 10.0), self.BOX
        assert count_bins(*fields) == 6
        assert make_bin_of(*fields)(np.array([obs]))[0] == row

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"bins": (4,)}, "entry 1 of the observation has no finite bound (bins_high gives one)"),
            ({"bins": (4, 4, 4)}, "bins (4, 4, 4) must be one number, or 2"),
            ({"bins": (4,), "bins_high": (1.0,)}, "bins_high (1.0,) must be 2 numbers"),
            (
                {"bins": (4,), "bins_high": (-1.0, 1.0)},
                "bins_low -1.0 of entry 0 must be below bins_high -1.0",
            ),
            ({}, "Box with bins"),
            ({"bins_low": (-1.0, 0.0)}, "bins_low (-1.0, 0.0) does nothing without bins"),
            ({"bins_high": (1.0, 1.0)}, "bins_high (1.0, 1.0) does nothing without bins"),
            ({"bins": (9_999,), "bins_high": (1.0, 1.0)}, "would need a table of"),
        ],
    )
    def test_are_refused_in_a_line_where_they_do_not_fit(self, fields, words):
        made = learner("sarsa", **fields)
        line = made._refuse(made.config, spec_of(self.BOX))
        assert words in line
        assert "\n" not in line
        assert line.startswith("sarsa")

    def test_have_no_more_intervals_than_a_table_has_entries(self):
        with pytest.raises(UsageError, match="bins must be whole numbers from 1 to 50000000, got"):
            learner("q-learning", bins=(10**19,))

    def test_given_as_one_number_are_told_how_to_be_given(self):
        says = r"^bins must be whole numbers, got 6 \(allowed: a list, such as \[6\]\)$"
        with pytest.raises(UsageError, match=says):
            make_learner("q-learning", bins=6)
        assert make_learner("q-learning", bins=[6]).config.bins == (6,)

    def test_refuse_nan(self):
        row_of = make_bin_of((4,), (-1.0, 0.0), (1.0, 10.0), self.BOX)
        assert row_of(np.array([[-np.inf, np.inf]])) == [3]
        with pytest.raises(UsageError, match=r"^entry 1 of the observation is nan, which is in no bin"):
            row_of(np.array([[0.0, 1.0], [0.0, np.nan]]))

    def test_let_a_table_learn_of_a_box(self):
        problem = problem_on(lambda: gymnasium.make("MountainCar-v0"), total_steps=400)
        agent = interact(table_agent("sarsa-lambda", problem, bins=(10,)), problem)
        assert agent.q.shape == (100, 3)
        assert agent.q.any()


@pytest.mark.parametrize("value", [1e300, -1e300, float("nan"), float("inf")])
def test_initial_values_are_bounded_on_both_sides(value):
    with pytest.raises(UsageError, match="initial_value must be "):
        learner("q-learning", initial_value=value)
    assert learner("q-learning", initial_value=1e12).config.initial_value == 1e12


@pytest.mark.parametrize("agent", ["q-learning", "sarsa-lambda", "td-prediction"])
def test_a_step_size_of_nothing_is_refused_at_the_start_and_taken_at_the_end(agent):
    with pytest.raises(UsageError, match=r"learning_rate must be greater than 0.0, got 0.0"):
        make_learner(agent, learning_rate=0.0)
    assert make_learner(agent, learning_rate_final=0.0)

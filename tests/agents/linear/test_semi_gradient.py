"""Semi-gradient SARSA and Q-learning: by hand, against textbook loops on the same steps, and what must not happen."""

from __future__ import annotations

from typing import ClassVar

import gymnasium
import numpy as np
import pytest

import rl_lab.envs  # noqa: F401  registers lab/*
from by_hand import agent_for, learned, states_after, step_of
from rl_lab.agents.linear import build_lspi, build_lstd, build_q, build_sarsa
from rl_lab.envs.sutton_barto.baird import FIRST_WEIGHTS, STATES, features_of
from rl_lab.types import UsageError
from tables import lambda_return_of
from toys import ConstantReward, Counting, Identity, Masked, interact, problem_on

STEADY = {"learning_rate": 0.5, "learning_rate_final": 0.5, "gamma": 0.5}
BOX = {"low": (0.0,), "high": (3e5,), "tiles": (3,), "tilings": 4}  # of Counting's observations


def table_agent(build, num_envs: int = 1, **fields):
    """An agent over three observations whose values are set."""
    agent, _ = agent_for(build, problem_on(lambda: Identity(3), num_envs=num_envs), **STEADY | fields)
    agent.values.weights[...] = np.array(
        [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [0.0, 0.0, 0.0]]
    ).T  # of the actions
    return agent


def table(agent) -> list:
    return agent.values.weights.T.tolist()


class TestQ:
    @pytest.mark.parametrize(
        ("terminated", "mask", "value"),
        [
            (False, None, 1 + 0.5 * (4 + 0.5 * 30 - 1)),  # truncated: the bootstrap stays
            (True, None, 1 + 0.5 * (4 - 1)),
            (False, [[True, False, False]], 1 + 0.5 * (4 + 0.5 * 10 - 1)),
            (True, [[False, False, False]], 1 + 0.5 * (4 - 1)),
        ],
    )
    def test_one_update_equals_that_computed_by_hand(self, terminated, mask, value):
        step = step_of([0], [0], [4], [1], terminated=[terminated], truncated=[True], next_mask=mask)
        assert table(learned(table_agent(build_q), step)) == [[value, 2, 3], [10, 20, 30], [0, 0, 0]]

    def test_environments_on_one_entry_add_up(self):
        agent = table_agent(build_q, 2)
        learned(agent, step_of([2, 2], [1, 1], [4, 8], [0, 0], terminated=[True, True]))
        assert table(agent)[2] == [0, 0.5 * 4 + 0.5 * 8, 0]

    def test_a_tile_takes_its_share_of_an_error(self):
        fields = STEADY | BOX
        agent, _ = agent_for(build_q, problem_on(Counting), **fields)
        learned(agent, step_of([[1.5e5]], [2], [8.0], [[0.0]], terminated=[True]))
        weights = agent.values.weights
        assert sorted(weights[2][weights[2] != 0]) == [1.0] * 4  # half of 8, over four grids
        assert not weights[:2].any()

    def test_traces_end_where_an_action_was_not_greedy(self):
        greedy, other = (table_agent(build_q, trace_decay=0.5) for _ in range(2))
        for agent, action in ((greedy, 2), (other, 1)):
            opens = step_of([0], [2], [0], [1], is_first=[True])
            learned(agent, opens, step_of([1], [action], [0], [2]))
        first = 3 + 0.5 * (0.5 * 30 - 3)  # the first step alone
        assert table(other)[0] == [1, 2, first]
        assert table(greedy)[0] == [1, 2, first + 0.5 * (0 - 30) * 0.5 * 0.5]
        assert table(other)[1] == [10, 20 + 0.5 * (0 - 20), 30]


class TestSarsa:
    def test_learns_from_the_action_that_follows(self):
        agent = table_agent(build_sarsa)
        learned(agent, step_of([0], [0], [4], [1]))
        assert table(agent)[0][0] == 1.0  # it waits
        learned(agent, step_of([1], [1], [0], [2]))
        assert table(agent) == [[1 + 0.5 * (4 + 0.5 * 20 - 1), 2, 3], [10, 20, 30], [0, 0, 0]]

    def test_an_end_is_learned_from_at_once_after_what_waited(self):
        agent = table_agent(build_sarsa)
        learned(agent, step_of([0], [0], [4], [1]), step_of([1], [0], [6], [2], terminated=[True]))
        assert table(agent)[:2] == [[1 + 0.5 * (4 + 0.5 * 10 - 1), 2, 3], [10 + 0.5 * (6 - 10), 20, 30]]

    @pytest.mark.parametrize(
        ("mask", "mean"), [(None, 0.7 * 30 + 0.1 * 60), ([[True, True, False]], 0.7 * 20 + 0.3 * 15)]
    )
    def test_a_time_limit_keeps_the_bootstrap_averaged_over_the_policy(self, mask, mean):
        agent = table_agent(build_sarsa, epsilon_initial=0.3, epsilon_final=0.3)
        learned(agent, step_of([0], [0], [4], [1], truncated=[True], next_mask=mask))
        assert table(agent)[0][0] == pytest.approx(1 + 0.5 * (4 + 0.5 * mean - 1))

    def test_a_new_episode_where_none_had_ended_keeps_the_bootstrap(self):
        agent = table_agent(build_sarsa, epsilon_initial=0.0, epsilon_final=0.0)
        learned(agent, step_of([0], [0], [4], [1]), step_of([2], [0], [0], [2], is_first=[True]))
        assert table(agent)[0][0] == 1 + 0.5 * (4 + 0.5 * 30 - 1)

    def test_traces_end_with_their_episode(self):
        agent = table_agent(build_sarsa, trace_decay=1.0)
        learned(
            agent,
            step_of([0], [0], [4], [1], terminated=[True], is_first=[True]),
            step_of([1], [0], [8], [2], terminated=[True], is_first=[True]),
        )
        assert table(agent)[:2] == [[1 + 0.5 * 3, 2, 3], [10 + 0.5 * (8 - 10), 20, 30]]

    def test_traces_end_with_a_life_although_the_episode_goes_on(self):
        agent = table_agent(build_sarsa, trace_decay=1.0)
        learned(
            agent,
            step_of([0], [0], [4], [1], terminated=[True], is_first=[True]),
            step_of([1], [0], [8], [2], terminated=[True]),
        )
        assert table(agent)[:2] == [[1 + 0.5 * 3, 2, 3], [10 + 0.5 * (8 - 10), 20, 30]]

    @pytest.mark.parametrize(("traces", "trace"), [("accumulating", 1.25), ("replacing", 1.0)])
    def test_a_visit_again_adds_to_a_trace_or_replaces_it(self, traces, trace):
        agent = table_agent(build_sarsa, trace_decay=0.5, traces=traces)
        learned(
            agent,
            step_of([2], [0], [0], [2], is_first=[True]),
            step_of([2], [0], [4], [0], terminated=[True]),
        )  # the first error is 0
        assert table(agent)[2][0] == 0.5 * 4 * trace


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("traces", ["accumulating", "replacing"])
@pytest.mark.parametrize("build", [build_q, build_sarsa])
def test_where_nothing_comes_again_traces_give_the_lambda_return_exactly(build, traces, truncated):
    """In Q-learning up to the first action that isn't greedy; by one-hot features, whose values are a table."""
    rng, states, decay = np.random.default_rng(5), 10, 0.8
    fields = {"trace_decay": decay, "traces": traces, "epsilon_initial": 0.0, "epsilon_final": 0.0}
    agent, _ = agent_for(build, problem_on(lambda: Identity(states)), **STEADY | fields)
    agent.values.weights[...] = rng.normal(size=(states, states))
    q, path = agent.values.weights.T.copy(), rng.permutation(states)
    best, reward = q.argmax(axis=1), rng.normal(size=states - 1)
    action = np.where(rng.random(states) < 0.5, best[path], rng.integers(states, size=states))[:-1]
    ends = np.arange(states - 1) == states - 2
    values = q.max(axis=1)[path[1:]]  # after SARSA's last step, epsilon is 0
    if build is build_sarsa:
        values[:-1] = q[path[1:-1], action[1:]]
    values[-1] *= truncated
    expected = q.copy()
    for t in range(states - 1):
        cuts = [k for k in range(t + 1, states - 1) if build is build_q and action[k] != best[path[k]]]
        end = min([*cuts, states - 1])
        target = lambda_return_of(reward[t:end], values[t:end], STEADY["gamma"], decay)
        expected[path[t], action[t]] += STEADY["learning_rate"] * (target - q[path[t], action[t]])
    for t in range(states - 1):
        over = {"truncated": ends[[t]]} if truncated else {"terminated": ends[[t]]}
        learned(agent, step_of(path[[t]], action[[t]], reward[[t]], path[[t + 1]], is_first=[t == 0], **over))
    np.testing.assert_allclose(agent.values.weights.T, expected, rtol=1e-9)


def textbook(steps, num_envs, features, actions, config, q_learning):
    """What textbook loops make of recorded steps, with a dense trace for each environment: weights [A, F]."""
    w, z = np.zeros((actions, features.count)), np.zeros((num_envs, actions, features.count))
    x = lambda obs: dense(features, obs[None])[0]  # noqa: E731
    waiting = {}

    def change(i, obs, action, target, opens):
        """Return what one step adds to the weights; all steps of a moment see the same weights."""
        q = w @ x(obs)
        if opens or (q_learning and q[action] < q.max()):
            z[i] = 0
        z[i] *= config.gamma * config.trace_decay
        z[i][action] += x(obs)
        return config.learning_rate * (target - q[action]) * z[i] * features.step_scale

    for s in steps:
        moved = 0.0
        for i in list(waiting):
            obs, action, reward, opens = waiting.pop(i)
            target = reward + config.gamma * (w[s.action[i]] @ x(s.obs[i]))
            moved += change(i, obs, action, target, opens)
        w = w + moved
        moved = 0.0
        for i in range(num_envs):
            done = s.terminated[i] or s.truncated[i]
            if not (done or q_learning):
                waiting[i] = s.obs[i], s.action[i], s.reward[i], s.is_first[i]
                continue
            follows = 0.0 if s.terminated[i] else (w @ x(s.next_obs[i])).max()  # epsilon is 0
            target = s.reward[i] + config.gamma * follows
            moved += change(i, s.obs[i], s.action[i], target, s.is_first[i])
            z[i] *= 1 - done
        w = w + moved
    return w


def dense(features, obs):
    active = features.active(features.read(obs))
    out = np.zeros((len(obs), features.count))
    np.put_along_axis(out, active.number, active.value, axis=1)
    return out


@pytest.mark.parametrize("trace_decay", [0.0, 0.7])
@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("build", [build_sarsa, build_q])
@pytest.mark.parametrize("kind", [BOX, {"low": (0.0,), "high": (3e5,), "features": "fourier"}])
def test_weights_are_those_of_a_textbook_loop_on_the_same_steps(kind, build, num_envs, trace_decay):
    problem = problem_on(Counting, num_envs=num_envs, total_steps=60 * num_envs)
    fields = {"learning_rate": 0.1, "learning_rate_final": 0.1, "epsilon_initial": 0.0, "epsilon_final": 0.0}
    agent, _ = agent_for(build, problem, **kind | fields | {"trace_decay": trace_decay, "gamma": 0.9})
    steps = []
    interact(agent, problem, steps.append)
    assert {bool(s.truncated.any()) for s in steps} == {True, False}
    w = textbook(steps, num_envs, agent.features, 3, agent.config, build is build_q)
    np.testing.assert_allclose(agent.values.weights, w, atol=1e-9)
    assert np.abs(w).max() > 0.1


EVERY = [build_sarsa, build_q, build_lstd, build_lspi]
SMALL = {
    build_sarsa: {"trace_decay": 0.8, "traces": "replacing"},
    build_q: {"trace_decay": 0.8},
    build_lstd: {"update_period_env_steps": 12, "capacity": 50},
    build_lspi: {"update_period_env_steps": 12, "capacity": 50, "max_iterations": 4},
}


class TestEveryLinearLearner:
    @pytest.mark.parametrize("build", EVERY)
    def test_a_constant_reward_is_worth_its_sum_whatever_the_time_limit(self, build):
        fields = {"gamma": 0.5, "features": "tiles", "tilings": 2, "tiles": (2,)}
        fields |= {"ridge": 1e-6, "update_period_env_steps": 100} if build in (build_lstd, build_lspi) else {}
        problem = problem_on(ConstantReward, total_steps=400)
        agent = interact(agent_for(build, problem, **fields)[0], problem)
        q = agent.values.of(agent.features.read(np.zeros((1, 1))))
        np.testing.assert_allclose(q, 2.0, atol=1e-3)

    @pytest.mark.parametrize("num_envs", [1, 8])
    @pytest.mark.parametrize("build", EVERY)
    def test_illegal_actions_are_never_taken_and_the_right_ones_are_learned(self, build, num_envs):
        problem = problem_on(Masked, num_envs=num_envs, total_steps=400)
        fields = {"update_period_env_steps": 100} if build in (build_lstd, build_lspi) else SMALL[build]
        agent = interact(agent_for(build, problem, gamma=0.0, **fields)[0], problem)
        assert agent.values.weights.argmax(axis=0).tolist() == [0, 1, 2, 3]
        assert agent.values.weights[(np.arange(4) + 1) % 4, np.arange(4)].tolist() == [0.0] * 4  # never tried

    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("build", EVERY)
    def test_one_that_was_stopped_ends_as_one_that_was_not(self, build, num_envs, tmp_path):
        problem = problem_on(Counting, num_envs=num_envs, total_steps=60 * num_envs)
        fields = {**BOX, **SMALL[build], "epsilon_final": 0.5}
        whole = states_after(build, problem, tmp_path, stop=None, **fields)
        assert whole == states_after(build, problem, tmp_path, stop=37 * num_envs, **fields)
        assert whole[0] != whole[1]

    @pytest.mark.parametrize("build", EVERY)
    @pytest.mark.parametrize("reward", [float("nan"), float("inf")])
    def test_a_reward_that_is_not_finite_raises_and_leaves_the_weights(self, build, reward):
        agent, _ = agent_for(build, problem_on(lambda: Identity(3)))
        before = agent.values.weights.copy()
        with pytest.raises(FloatingPointError, match="isn't finite"):
            learned(agent, step_of([0], [0], [reward], [1]))
        np.testing.assert_array_equal(agent.values.weights, before)


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            (
                {"traces": "replacing", "trace_decay": 0.5, "features": "raw"},
                "'replacing' need tiles or one-hot",
            ),
            (
                {"first_weights": (1.0, 2.0), "features": "raw"},
                "first_weights has 2 numbers; there are 1 features",
            ),
        ],
    )
    def test_say_in_a_line_what_does_not_fit(self, fields, said):
        assert said in build_q(**fields).refuse(problem_on(Counting))


class TestBairdsStar:
    """Section 11.2 of Sutton and Barto: the step size is the book's, and so are the weights at the start."""

    RAW: ClassVar = {"features": "raw", "epsilon_initial": 1.0, "epsilon_final": 1.0}

    def test_makes_q_diverge(self):
        still = {"learning_rate": 0.01, "learning_rate_final": 0.01, "first_weights": FIRST_WEIGHTS}
        problem, sizes = problem_on(lambda: gymnasium.make("lab/Baird-v0"), total_steps=1_000), []
        agent, _ = agent_for(build_q, problem, **self.RAW, **still)
        interact(agent, problem, lambda step: sizes.append(np.abs(agent.values.weights).max()))
        assert sizes[0] == pytest.approx(10.0, rel=0.1)
        assert sizes[500] > 2 * sizes[0]
        assert sizes[-1] > 2 * sizes[500]

    @pytest.mark.parametrize("build", [build_lstd, build_lspi])
    def test_is_solved_exactly_by_least_squares(self, build):
        """With rewards, as without any the right side is 0, and so is every solution."""
        problem, steps = problem_on(Paying, num_envs=8, total_steps=1_000), []
        agent, _ = agent_for(build, problem, **self.RAW, gamma=0.9, ridge=1e-6)
        agent.values.weights[...] = FIRST_WEIGHTS
        interact(agent, problem, steps.append)
        q = agent.values.of(features_of(np.arange(STATES)))
        np.testing.assert_allclose(q, swept(steps, best=build is build_lspi), atol=1e-4)
        assert np.abs(q).min() > 0.5


class Paying(gymnasium.Wrapper):
    """Baird's star, whose rewards differ between all pairs of a state and an action."""

    def __init__(self):
        super().__init__(gymnasium.make("lab/Baird-v0"))

    def reset(self, **options):
        self.obs, info = self.env.reset(**options)
        return self.obs, info

    def step(self, action):
        pay, (self.obs, _, *rest) = 1.0 + star(self.obs) - 3.0 * action, self.env.step(action)
        return self.obs, pay, *rest


def star(obs) -> int:
    """The state that features [8] belong to."""
    return int(np.flatnonzero((features_of(np.arange(STATES)) == obs).all(axis=1))[0])


def swept(steps, best: bool, gamma: float = 0.9):
    """Sweep over the model that recorded steps make up until values stay: Q [7, 2], of random actions or the best."""
    seen = np.zeros((STATES, 2, STATES))
    pay = np.array([[1.0 + s - 3.0 * a for a in range(2)] for s in range(STATES)])
    for step in steps:
        for obs, action, after in zip(step.obs, step.action, step.next_obs, strict=True):
            seen[star(obs), action, star(after)] += 1
    p, q = seen / seen.sum(axis=2, keepdims=True), np.zeros((STATES, 2))
    for _ in range(400):
        q = pay + gamma * p @ (q.max(axis=1) if best else q.mean(axis=1))
    return q


@pytest.mark.parametrize("build", [build_q, build_sarsa])
def test_step_sizes_of_nothing_and_weights_that_are_no_numbers_are_refused(build):
    with pytest.raises(UsageError, match=r"learning_rate must be greater than 0.0, got 0.0"):
        build(learning_rate=0.0)
    assert build(learning_rate_final=0.0)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"first_weights must be finite numbers, got {wrong}"):
            build(first_weights=(1.0, wrong))

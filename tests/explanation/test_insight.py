"""The figures behind one decision, against what the policy and the model say."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_lab.environments.make import make_env
from rl_lab.explanation.insight import Facts, facts_of, insight
from rl_lab.explanation.names import action_names, observation_names
from rl_lab.explanation.optimum import Optimum
from rl_lab.mdp.solve import solve
from rl_lab.nn.actor_critic import StochasticPolicy, make_acting_outputs, make_actor_critic
from rl_lab.nn.joint_distributions import make_distribution
from rl_lab.policies import ValuePolicy, shifted
from rl_lab.types import Decision

FIRST, CPU = np.ones(1, np.bool_), torch.device("cpu")
NOWHERE = Optimum("no model here")
VECTOR = spaces.Box(-1, 1, (3,))


def facts(actions: spaces.Space, names: list[str] | None = None) -> Facts:
    return Facts(actions, VECTOR, names or [], [], NOWHERE)


def look(policy, obs, facts, mask=None):
    state = policy.initial_state(1)
    decision = policy.act(obs, state, FIRST, mask)
    return insight(policy, obs, state, FIRST, mask, decision, facts)


class Told:
    """A policy that shows given figures."""

    def __init__(self, figures, action=0):
        self.figures, self.action = figures, action

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        return Decision(np.array([self.action]))

    def inspect(self, obs, state, is_first, mask=None):
        return {name: np.array([figure]) for name, figure in self.figures.items()}


def drawing(actions: spaces.Space, **fields) -> StochasticPolicy:
    distribution = make_distribution(actions)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_actor_critic(VECTOR, distribution)
        for p in network.policy_head.parameters():
            p.data += 0.5 * torch.randn(p.shape)
    return StochasticPolicy(make_acting_outputs(network, CPU), distribution, network=network, **fields)


class TestValues:
    def test_of_action_values_the_largest_is_the_value(self):
        policy = ValuePolicy(lambda obs, state, first: (np.array([[1.0, 4.0, 2.0]]), ()), 3)
        found = look(policy, np.zeros((1, 3)), facts(spaces.Discrete(3), ["a", "b", "c"]))
        assert (found.kind, found.values, found.chosen, found.value) == ("q_values", [1.0, 4.0, 2.0], 1, 4.0)
        assert found.action_names == ["a", "b", "c"]
        assert found.carry_norm is None

    def test_an_illegal_action_is_none_in_json(self):
        policy = ValuePolicy(lambda obs, state, first: (np.array([[1.0, 4.0]]), ()), 2)
        found = look(policy, np.zeros((1, 3)), facts(spaces.Discrete(2)), np.array([[True, False]]))
        assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["values"] == [1.0, None]
        assert (found.chosen, found.value) == (0, 1.0)

    def test_actions_that_start_elsewhere_are_counted_from_zero(self):
        policy = shifted(ValuePolicy(lambda obs, state, first: (np.array([[1.0, 4.0]]), ()), 2), 5)
        found = look(policy, np.zeros((1, 3)), facts(spaces.Discrete(2, start=5)))
        assert policy.act(np.zeros((1, 3)), (), FIRST).action.tolist() == [6]
        assert found.chosen == 1

    def test_a_greedy_network_shows_the_distribution_that_the_drawing_one_draws_from(self):
        space, obs = spaces.Discrete(3), np.array([[0.1, -0.4, 0.9]], np.float32)
        greedy = look(drawing(space), obs, facts(space))
        drawn = look(drawing(space, rng=np.random.default_rng(0)), obs, facts(space))
        assert greedy.kind == drawn.kind == "probabilities"
        np.testing.assert_allclose(greedy.values, drawn.values, rtol=1e-5)
        assert greedy.chosen == int(np.argmax(greedy.values))

    def test_of_several_entries_each_has_its_distribution(self):
        space = spaces.MultiDiscrete([2, 3])
        found = look(drawing(space), np.ones((1, 3), np.float32), facts(space))
        assert found.kind == "probabilities"
        assert sum(found.values[:2]) == pytest.approx(1.0)
        assert sum(found.values[2:]) == pytest.approx(1.0)
        assert found.chosen == [np.argmax(found.values[:2]), np.argmax(found.values[2:])]

    def test_continuous_actions_have_means_and_deviations(self):
        space = spaces.Box(-9, 9, (2,))
        policy, obs = drawing(space), np.ones((1, 3), np.float32)
        found = look(policy, obs, facts(space))
        assert (found.kind, found.values) == ("", None)
        np.testing.assert_allclose(found.means, found.chosen, rtol=1e-6)
        np.testing.assert_allclose(found.deviations, np.exp(policy.network.policy_head.log_std.detach()))

    def test_atoms_without_probabilities_are_equally_likely(self):
        found = look(Told({"atoms": [[0.0, 2.0], [1.0, 5.0]]}), np.zeros((1, 3)), facts(spaces.Discrete(2)))
        expected = {"atoms": [[0.0, 2.0], [1.0, 5.0]], "probabilities": [[0.5, 0.5]] * 2}
        assert found.distribution == expected
        told = Told({"atoms": [[0.0, 2.0]], "atom_probabilities": [[0.25, 0.75]]})
        assert look(told, np.zeros((1, 3)), facts(spaces.Discrete(1))).distribution["probabilities"] == [
            [0.25, 0.75]
        ]

    def test_the_norm_is_that_of_the_whole_carry_after_the_decision(self):
        policy = Told({})
        decision = Decision(np.array([0]), (np.array([[3.0, 0.0]]), (np.array([[4.0]]),)))
        found = insight(policy, np.zeros((1, 3)), (), FIRST, None, decision, facts(spaces.Discrete(2)))
        assert found.carry_norm == pytest.approx(5.0)

    def test_where_nothing_is_chosen_there_is_no_regret(self):
        env = make_env("FrozenLake-v1")
        told = facts_of(env, 0.9)
        found = insight(Told({}), np.array([0]), (), FIRST, None, None, told)
        assert found.chosen is None
        assert found.regret is None
        assert len(found.optimal) == 4


class TestOptimum:
    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "lab/GridWorldPixels-v0"])
    def test_the_regret_of_each_action_is_its_distance_from_the_best(self, env_id):
        env = make_env(env_id)
        told = facts_of(env, 0.9, "gamma")
        model = told.optimum.model
        q = solve(model, 0.9).q
        for state in (0, model.num_states // 2):
            for action in range(4):
                obs = model.observe(np.array([state]))
                found = look(Told({}, action), obs, told)
                np.testing.assert_array_equal(found.optimal, q[state])
                assert found.regret == pytest.approx(q[state].max() - q[state, action])
        assert found.optimal_note == "exact at gamma 0.9"

    def test_what_the_environment_shows_is_found_among_the_states(self):
        env = make_env("lab/GridWorldPixels-v0")
        optimum = facts_of(env, 0.9).optimum
        obs, _ = env.reset(seed=0)
        state = optimum.state_of(obs[None])
        np.testing.assert_array_equal(optimum.model.observe(np.array([state]))[0], obs)
        assert optimum.model.initial[state] > 0
        assert optimum.state_of(255 - obs[None]) is None

    def test_a_stack_of_frames_has_none(self):
        env = gymnasium.wrappers.FrameStackObservation(make_env("FrozenLake-v1"), 2)
        assert facts_of(env, 0.9).optimum.reason
        found = look(Told({}), np.zeros((1, 2), int), facts_of(env, 0.9))
        assert (found.optimal, found.regret) == (None, None)
        assert found.optimal_note == facts_of(env, 0.9).optimum.reason

    def test_states_that_look_alike_have_none(self):
        from dataclasses import replace

        from rl_lab.explanation.optimum import optimum_of_model

        model = facts_of(make_env("FrozenLake-v1"), 0.9).optimum.model
        alike = replace(model, observe=lambda states: np.maximum(states, 1))
        assert optimum_of_model(alike, 0.9).reason == (
            "observations don't tell the state: those of states 0 and 1 are alike"
        )

    def test_without_a_model_or_discount_a_reason_is_given(self):
        assert "CartPole-v1" in facts_of(make_env("CartPole-v1"), 0.9).optimum.reason
        assert facts_of(make_env("FrozenLake-v1")).optimum.reason == "no discount is given"


class TestNames:
    def test_of_known_environments(self):
        cart = make_env("CartPole-v1")
        assert action_names(cart) == ["push left", "push right"]
        assert observation_names(cart)[2] == "pole angle"
        lander = make_env("LunarLander-v3")
        assert action_names(lander)[2] == "main engine"
        assert len(observation_names(lander)) == 8

    def test_of_grids_by_where_their_actions_move(self):
        assert action_names(make_env("lab/GridWorldPixels-v0")) == ["up", "right", "down", "left"]

    def test_of_environments_that_tell_them(self):
        class Talking(gymnasium.Env):
            action_space, observation_space = spaces.Discrete(2), VECTOR

            def get_action_meanings(self):
                return ["NOOP", "FIRE"]

        assert action_names(Talking()) == ["noop", "fire"]
        Talking.action_space = spaces.Discrete(3)  # the names no longer fit
        assert action_names(Talking()) == ["0", "1", "2"]

    def test_of_parts_by_their_keys(self):
        class Parts(gymnasium.Env):
            action_space = spaces.MultiDiscrete([2, 2], start=[0, 3])
            observation_space = spaces.Dict(
                {
                    "goal": spaces.Box(-1, 1, (2,)),
                    "at": spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1, 2)))),
                }
            )

        assert observation_names(Parts()) == ["at.0", "at.1[0, 0]", "at.1[0, 1]", "goal[0]", "goal[1]"]
        assert action_names(Parts()) == ["0 = 0", "0 = 1", "1 = 3", "1 = 4"]


LAB_NAMES = {
    "lab/TMaze-v0": ["north", "east", "south", "west"],
    "lab/Catch-v0": ["left", "stay", "right"],
    "lab/CartPolePositions-v0": ["push left", "push right"],
    "lab/FlickeringGridWorld-v0": ["up", "right", "down", "left"],
    "lab/MemoryChain-v0": ["bit is 0", "bit is 1"],
    "lab/RepeatPrevious-v0": ["symbol 0", "symbol 1", "symbol 2", "symbol 3"],
    "lab/CarRental-v0": [
        f"move {k}" for k in ("-5", "-4", "-3", "-2", "-1", "none", "+1", "+2", "+3", "+4", "+5")
    ],
    "lab/Gambler-v0": [f"stake {k}" for k in range(51)],
    "lab/Bandit-v0": [f"lever {k}" for k in range(10)],
    "lab/RandomWalk-v0": ["drift"],
    "lab/Blackjack-v0": ["stick", "hit"],
}


@pytest.mark.parametrize("env_id", LAB_NAMES)
def test_the_labs_environments_name_their_actions(env_id):
    env = make_env(env_id)
    assert action_names(env) == LAB_NAMES[env_id]
    env.close()


def test_the_directions_of_the_t_maze_are_those_of_its_actions():
    env = make_env("lab/TMaze-v0", env_kwargs={"length": 2})
    east, north = (action_names(env).index(name) for name in ("east", "north"))
    env.reset(seed=0)
    for _ in range(2):
        obs, *_ = env.step(east)
    assert obs.tolist() == [0.0, 1.0, 0.0]  # the junction
    assert env.step(north)[2]
    env.close()

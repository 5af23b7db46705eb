"""What a finite MDP holds, what it refuses, and where it comes from."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.envs.toy_text import FrozenLakeEnv

import rl_lab.envs  # noqa: F401  registers the grid worlds
from odd_models import FOREIGN
from rl_lab.mdp.model import TabularModel, extract_model, why_no_model
from rl_lab.types import UsageError

# (state, action, probability, successor, reward, terminated)
CHAIN = [
    (0, 0, 0.5, 1, 2.0, False),
    (0, 0, 0.25, 0, 4.0, False),
    (0, 0, 0.25, 1, 8.0, True),
    (0, 1, 1.0, 0, -1.0, False),
    (1, 0, 1.0, 1, 0.0, True),
]


def build(outcomes, num_states=2, num_actions=2, initial=(1.0, 0.0), **fields) -> TabularModel:
    return TabularModel.from_outcomes(outcomes, num_states, num_actions, initial, **fields)


def swap(index: int, column: int, value: float) -> list:
    rows = [list(row) for row in CHAIN]
    rows[index][column] = value
    return rows


class TestExpectations:
    def test_hand_computed_chain(self):
        model = build(CHAIN)
        assert (model.num_states, model.num_actions) == (2, 2)
        np.testing.assert_array_equal(model.expected_reward, [[4.0, -1.0], [0.0, 0.0]])
        np.testing.assert_array_equal(model.termination, [[0.25, 0.0], [1.0, 0.0]])
        np.testing.assert_array_equal(
            model.continuation.toarray(), [[0.25, 0.5], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
        )
        np.testing.assert_array_equal(model.available, [[True, True], [True, False]])

    def test_rows_may_come_in_any_order_and_as_an_array(self):
        model, shuffled = build(CHAIN), build(np.array([CHAIN[i] for i in (4, 3, 0, 1, 2)]))
        for name in ("indptr", "probability", "successor", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(shuffled, name), getattr(model, name))

    def test_repeated_successors_add_up(self):
        model = build([(0, 0, 0.5, 0, 1.0, False), (0, 0, 0.5, 0, 3.0, False)], 1, 1, [1.0])
        assert model.probability.shape == (2,)  # kept apart for sampling
        assert model.expected_reward[0, 0] == 2.0
        assert model.continuation.toarray()[0, 0] == 1.0

    def test_observe_shows_state_numbers_by_default(self):
        np.testing.assert_array_equal(build(CHAIN).observe(np.array([1, 0])), [1, 0])


class TestValidation:
    @pytest.mark.parametrize(
        ("outcomes", "message"),
        [
            (swap(3, 2, 0.9), r"probabilities of \(state 0, action 1\) sum to 0.9"),
            (swap(1, 2, -0.25), r"probability -0.25 of \(state 0, action 0\) must be at least 0"),
            (swap(3, 2, np.nan), r"probability nan of \(state 0, action 1\)"),
            (swap(4, 4, np.inf), r"reward inf of \(state 1, action 0\)"),
            (swap(4, 3, 2), r"successor 2 of \(state 1, action 0\) is out of range 0..1"),
            (swap(4, 3, 0.5), r"successor 0.5 of \(state 1, action 0\)"),
            (swap(3, 1, 2), r"action 2 of \(state 0, action 2\) is out of range 0..1"),
            (swap(3, 0, -1), r"state -1 of \(state -1, action 1\) is out of range 0..1"),
            (CHAIN[:4], "state 1 has no available action"),
        ],
    )
    def test_names_the_first_offender(self, outcomes, message):
        with pytest.raises(ValueError, match=message):
            build(outcomes)

    def test_first_of_several_sums_is_named(self):
        rows = swap(3, 2, 0.9)
        rows[4][2] = 0.8
        with pytest.raises(ValueError, match=r"\(state 0, action 1\)"):
            build(rows)

    def test_available_action_without_outcomes_is_refused(self):
        with pytest.raises(ValueError, match=r"\(state 1, action 1\) sum to 0"):
            build(CHAIN, available=np.ones((2, 2), bool))

    @pytest.mark.parametrize("initial", [(0.5, 0.4), (1.5, -0.5), (np.nan, 1.0), (1.0,)])
    def test_initial_must_be_a_distribution(self, initial):
        with pytest.raises(ValueError, match="initial"):
            build(CHAIN, initial=initial)

    def test_successor_is_checked_without_from_outcomes(self):
        model = build(CHAIN)
        fields = {name: getattr(model, name) for name in model.__dataclass_fields__}
        with pytest.raises(ValueError, match="successor 9"):
            TabularModel(**{**fields, "successor": np.array([1, 0, 1, 0, 9])})


class TestToyText:
    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
    def test_agrees_with_p(self, env_id):
        env = gymnasium.make(env_id)
        model = extract_model(env)
        assert model is not None
        final = model.termination.min(axis=1) == 1.0
        expected = np.zeros((model.num_states * model.num_actions, model.num_states))
        reward = np.zeros((model.num_states, model.num_actions))
        for s in np.flatnonzero(~final):
            for a, row in env.unwrapped.P[s].items():
                for p, successor, r, terminated in row:
                    expected[s * model.num_actions + a, successor] += 0.0 if terminated else p
                    reward[s, a] += p * r
        np.testing.assert_allclose(model.continuation.toarray(), expected, rtol=0, atol=1e-15)
        np.testing.assert_allclose(model.expected_reward, reward, rtol=1e-15)
        np.testing.assert_array_equal(model.initial, env.unwrapped.initial_state_distrib)

    def test_final_states_end_the_episode_whatever_p_says(self):
        env = gymnasium.make("CliffWalking-v1")
        assert not all(t for row in env.unwrapped.P[47].values() for *_, t in row)  # P moves on from the goal
        model = extract_model(env)
        np.testing.assert_array_equal(np.flatnonzero(model.termination.min(axis=1) == 1), [47])
        np.testing.assert_array_equal(model.expected_reward[47], 0.0)

    def test_taxi_uses_its_action_masks(self):
        env = gymnasium.make("Taxi-v4")
        model = extract_model(env)
        _, info = env.reset(seed=3)
        np.testing.assert_array_equal(model.available[env.unwrapped.s], info["action_mask"])
        assert not model.available.all()

    def test_a_mask_without_actions_means_all(self):
        env = gymnasium.make("Taxi-v4")
        mask = env.unwrapped.action_mask
        env.unwrapped.action_mask = lambda state: np.zeros(6) if state == 7 else mask(state)
        assert extract_model(env).available[7].all()


class Halved(gymnasium.Wrapper):
    def step(self, action):
        obs, reward, *rest = self.env.step(action)
        return obs, reward / 2, *rest


class Counting(Halved):
    keeps_model = True


class TestExtraction:
    @pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1"])
    def test_none_without_a_model(self, env_id):
        assert extract_model(gymnasium.make(env_id)) is None

    def test_none_for_a_hidden_state(self):
        env = gymnasium.make("Taxi-v4", fickle_passenger=True)
        assert extract_model(env) is None
        assert why_no_model(env, "Taxi-v4").startswith("with fickle_passenger Taxi-v4 keeps a state that")

    def test_the_reason_for_none_is_the_real_one(self):
        changed = gymnasium.wrappers.TransformReward(gymnasium.make("FrozenLake-v1"), lambda reward: -reward)
        assert why_no_model(changed, "FrozenLake-v1").startswith(
            "the wrappers around FrozenLake-v1 may change"
        )
        assert why_no_model(gymnasium.make("CartPole-v1"), "CartPole-v1").startswith(
            "CartPole-v1 gives no model (allowed: FrozenLake, Taxi, CliffWalking, "
        )
        assert "toy-text" not in why_no_model(
            gymnasium.make("Blackjack-v1"), "Blackjack-v1"
        )  # it is toy-text

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda env: wrappers.TransformReward(env, lambda r: 2 * r),
            lambda env: wrappers.TransformObservation(env, lambda o: 15 - o, env.observation_space),
            lambda env: wrappers.TransformAction(env, lambda a: 3 - a, env.action_space),
            lambda env: wrappers.FlattenObservation(env),
            lambda env: wrappers.StickyAction(env, 0.2),
            lambda env: wrappers.NormalizeReward(env),
            lambda env: wrappers.TimeLimit(Halved(env), 10),
        ],
    )
    def test_none_if_a_wrapper_changes_the_problem(self, wrap):
        assert extract_model(wrap(gymnasium.make("FrozenLake-v1"))) is None

    @pytest.mark.parametrize("wrap", [wrappers.RecordEpisodeStatistics, gymnasium.Wrapper, Counting])
    def test_harmless_wrappers_keep_it(self, wrap):
        assert extract_model(wrap(gymnasium.make("FrozenLake-v1"))) is not None

    def test_an_environment_offers_its_own(self):
        model = extract_model(gymnasium.make("lab/GridWorldPixels-v0"))
        assert model is not None
        assert model.observe(np.array([0])).shape == (1, 40, 40, 3)

    def test_a_foreign_attribute_named_model_is_none(self):
        env = gymnasium.make("CartPole-v1")
        env.unwrapped.model = lambda: "a physics engine"
        assert extract_model(env) is None

    @pytest.mark.parametrize("kind", FOREIGN)
    def test_what_else_is_called_model_or_p_is_left_alone(self, kind):
        assert extract_model(kind()) is None


class TestInvalidModels:
    def test_a_map_without_a_start_is_named(self):
        with np.errstate(invalid="ignore"):
            env = FrozenLakeEnv(desc=["FF", "FG"])
        with pytest.raises(UsageError, match=r"^FrozenLakeEnv has no state to start in"):
            extract_model(env)

    def test_are_named_by_their_class_and_the_first_offender(self):
        env = FrozenLakeEnv()
        env.P[3][1] = [(0.5, 0, 0.0, False)]
        with pytest.raises(
            UsageError, match=r"FrozenLakeEnv isn't valid: .* \(state 3, action 1\) sum to 0.5"
        ):
            extract_model(env)


class TestForeignAttributes:
    def test_a_method_of_that_name_may_raise(self):
        class Foreign(FrozenLakeEnv):
            def model(self):
                raise NotImplementedError

        assert extract_model(Foreign()) is None

    def test_a_mask_that_is_no_method_is_left_alone(self):
        class Foreign(FrozenLakeEnv):
            action_mask = np.ones(4)

        assert extract_model(Foreign()).available.all()

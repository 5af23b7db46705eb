"""Exact returns of policies against hand-computed tables, reference numbers and sampled episodes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import rl_lab.envs  # noqa: F401  registers the grid worlds
from rl_lab.evaluation.exact import (
    FIGURES,
    action_probabilities,
    exact_figures,
    expected_return,
    limited_return,
    measure_regret,
    optimal_return,
)
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.rows import NeverEnds
from rl_lab.mdp.solve import value_iteration
from rl_lab.types import Decision

NONE = dict.fromkeys(FIGURES)
# From 0: stay for 1, or end for 5. State 1 is never met and never ends.
LOOP = [
    (0, 0, 1.0, 0, 1.0, False),
    (0, 1, 1.0, 0, 5.0, True),
    (1, 0, 1.0, 1, 1.0, False),
    (1, 1, 1.0, 1, 1.0, False),
]


class TablePolicy:
    """Acts by a table of actions [S], or of probabilities [S, A] that it also shows."""

    def __init__(self, table, carry=()) -> None:
        self.table = np.asarray(table)
        self.carry = carry
        self.widths: list[int] = []
        self.masks: list[np.ndarray | None] = []

    def initial_state(self, num_envs):
        return self.carry

    def act(self, obs, state, is_first, mask=None):
        self.widths.append(len(obs))
        self.masks.append(mask)
        return Decision(self.table[obs])

    def inspect(self, obs, state, is_first, mask=None):
        return {"probabilities": self.table[obs]} if self.table.ndim == 2 else {}


def loop_model() -> TabularModel:
    return TabularModel.from_outcomes(LOOP, 2, 2, [1.0, 0.0])


def toy(env_id: str, **fields) -> TabularModel:
    model = extract_model(gymnasium.make(env_id, **fields))
    assert model is not None
    return model


class TestActionProbabilities:
    def test_deterministic_actions_become_certain(self):
        model = loop_model()
        np.testing.assert_array_equal(
            action_probabilities(TablePolicy([1, 0]), model, 2), [[0.0, 1.0], [1.0, 0.0]]
        )

    def test_shown_probabilities_are_taken(self):
        table = np.array([[0.25, 0.75], [0.5, 0.5]])
        np.testing.assert_array_equal(action_probabilities(TablePolicy(table), loop_model(), 3), table)

    @pytest.mark.parametrize("width", [1, 3, 16, 20])
    def test_every_batch_has_the_width(self, width):
        policy = TablePolicy(np.arange(16) % 4)
        result = action_probabilities(policy, toy("FrozenLake-v1"), width)
        assert set(policy.widths) == {width}
        np.testing.assert_array_equal(result.argmax(axis=1), np.arange(16) % 4)

    def test_masks_are_shown_where_there_are_any(self):
        model, policy = toy("Taxi-v4"), TablePolicy(np.zeros(500, int))
        action_probabilities(policy, model, 300)
        np.testing.assert_array_equal(np.concatenate(policy.masks)[:500], model.available)
        policy = TablePolicy(np.zeros(16, int))
        action_probabilities(policy, toy("FrozenLake-v1"), 16)
        assert policy.masks == [None]

    def test_observations_are_those_of_the_environment(self):
        model = extract_model(gymnasium.make("lab/GridWorldPixels-v0"))
        seen = []

        class Looking(TablePolicy):
            def act(self, obs, state, is_first, mask=None):
                seen.append(obs)
                return Decision(np.zeros(len(obs), int))

        action_probabilities(Looking([0]), model, 7)
        assert {obs.shape for obs in seen} == {(7, 40, 40, 3)}

    def test_none_with_a_carry(self):
        assert action_probabilities(TablePolicy([0, 0], carry=(np.zeros(1),)), loop_model(), 1) is None

    def test_refuses_a_width_of_zero(self):
        with pytest.raises(ValueError, match="width 0"):
            action_probabilities(TablePolicy([0, 0]), loop_model(), 0)


class TestReturns:
    @pytest.mark.parametrize(
        ("stay", "gamma", "value"), [(0.0, 0.5, 5.0), (1.0, 0.5, 2.0), (0.5, 1.0, 6.0), (0.5, 0.0, 3.0)]
    )
    def test_hand_computed(self, stay, gamma, value):
        probabilities = np.array([[stay, 1 - stay], [1.0, 0.0]])
        assert expected_return(loop_model(), probabilities, gamma) == pytest.approx(value, rel=1e-14)

    @pytest.mark.parametrize(("steps", "value"), [(0, 0.0), (1, 3.0), (2, 4.5), (3, 5.25), (None, 6.0)])
    def test_limited_by_hand(self, steps, value):
        assert limited_return(loop_model(), np.full((2, 2), 0.5), steps) == pytest.approx(value, rel=1e-14)

    def test_endless_episodes_have_a_return_only_with_a_limit(self):
        stay = np.array([[1.0, 0.0], [1.0, 0.0]])
        with pytest.raises(NeverEnds, match="state 0"):
            expected_return(loop_model(), stay, 1.0)
        assert limited_return(loop_model(), stay, None) is None
        assert limited_return(loop_model(), stay, 7) == 7.0

    def test_frozen_lake_reference_numbers(self):
        model = toy("FrozenLake-v1")
        policy = np.eye(4)[value_iteration(model, 0.99).policy]
        assert expected_return(model, policy, 0.99) == pytest.approx(0.542, abs=5e-4)
        assert limited_return(model, policy, None) == pytest.approx(0.8235, abs=5e-5)
        assert limited_return(model, policy, 100) == pytest.approx(0.740, abs=5e-4)

    @pytest.mark.parametrize(
        ("env_id", "fields"), [("FrozenLake-v1", {}), ("lab/GridWorld-v0", {"slip": 0.3, "map": "S.G\n.P."})]
    )
    def test_equals_the_mean_of_sampled_episodes(self, env_id, fields):
        env = gymnasium.make(env_id, max_episode_steps=20, **fields)
        model = extract_model(env)
        probabilities = np.random.default_rng(5).dirichlet(np.ones(4), size=model.num_states)
        returns = np.array(sample_returns(env, probabilities, episodes=3000))
        error = returns.std() / np.sqrt(len(returns))
        assert abs(returns.mean() - limited_return(model, probabilities, 20)) < 4 * error


def sample_returns(env: gymnasium.Env, probabilities: np.ndarray, episodes: int) -> list[float]:
    rng, returns = np.random.default_rng(6), []
    bounds = probabilities.cumsum(axis=1)
    for episode in range(episodes):
        state, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            action = min(int(np.searchsorted(bounds[state], rng.random())), 3)
            state, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return returns


class TestFigures:
    @pytest.mark.parametrize("gamma", [0.9, 0.99, 1.0])
    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
    def test_an_optimal_policy_has_no_regret_at_all(self, env_id, gamma):
        model = toy(env_id)
        policy = TablePolicy(value_iteration(model, gamma).policy)
        figures = exact_figures(policy, model, gamma, max_steps=100, width=8)
        assert figures["regret"] == 0.0
        assert figures["optimal_return"] == optimal_return(model, gamma)
        assert figures["exact_eval_return"] is not None

    def test_regret_is_the_distance_from_the_optimum(self):
        figures = exact_figures(TablePolicy([0, 0]), loop_model(), 0.5, max_steps=3, width=1)
        found = {name: figures[name] for name in ("optimal_return", "regret", "exact_eval_return")}
        assert found == {"optimal_return": 5.0, "regret": 3.0, "exact_eval_return": 3.0}

    def test_none_without_a_model_or_with_a_carry(self):
        assert exact_figures(TablePolicy([0]), None, 0.9, 100, 1) == NONE
        assert exact_figures(TablePolicy([0, 0], carry=np.zeros(1)), loop_model(), 0.9, 100, 1) == NONE

    def test_none_where_no_undiscounted_return_exists(self):
        assert exact_figures(TablePolicy([0, 0]), loop_model(), 1.0, None, 1) == NONE

    def test_regret_is_clipped_at_rounding_only(self):
        assert measure_regret(1.0, 1.0 - 1e-13) == 0.0
        assert measure_regret(1.0, 1.0 - 1e-11) == pytest.approx(1e-11, rel=1e-3)
        assert measure_regret(-1e4, -1e4 + 1e-9) == 0.0

"""Plans lead to where they should, and models are compared where random play seldom comes."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from odd_models import RichSteered, Steered
from rl_lab.mdp.agreement import find_disagreement
from rl_lab.mdp.guide import Guide, Plan, distances
from rl_lab.mdp.model import TabularModel, extract_model


def corridor(length: int, available=None) -> TabularModel:
    """Action 1 goes right, and ends the episode with reward 1 in the last state; action 0 stays."""
    outcomes = [(s, 0, 1.0, s, 0.0, False) for s in range(length)]
    outcomes += [(s, 1, 1.0, s + 1, 0.0, False) for s in range(length - 1)]
    outcomes += [(length - 1, 1, 1.0, length - 1, 1.0, True)]
    return TabularModel.from_outcomes(outcomes, length, 2, np.eye(length)[0], available)


def test_distances_count_the_steps_of_available_actions():
    assert distances(corridor(4)).tolist() == [0, 1, 2, 3]
    available = np.ones((4, 2), bool)
    available[1, 1] = False
    assert distances(corridor(4, available)).tolist() == [0, 1, np.inf, np.inf]


def test_a_plan_goes_the_way_that_arrives():
    model, rng = corridor(6), np.random.default_rng(0)
    plan = Plan(model, np.arange(12) == 2 * 4)  # to stay in state 4
    both = np.arange(2)
    assert [plan.choose(s, both, rng) for s in range(5)] == [1, 1, 1, 1, 0]


def test_a_plan_avoids_what_may_end_the_episode():
    """Action 0 arrives at once or ends, half and half; action 1 arrives surely in two steps."""
    outcomes = [(0, 0, 0.5, 2, 0.0, False), (0, 0, 0.5, 0, 0.0, True), (0, 1, 1.0, 1, 0.0, False)]
    outcomes += [
        (1, 0, 1.0, 2, 0.0, False),
        (1, 1, 1.0, 2, 0.0, False),
        (2, 0, 1.0, 2, 0.0, True),
        (2, 1, 1.0, 2, 0.0, True),
    ]
    model = TabularModel.from_outcomes(outcomes, 3, 2, [1.0, 0.0, 0.0])
    plan = Plan(model, np.arange(6) >= 4)
    assert plan.choose(0, np.arange(2), np.random.default_rng(0)) == 1


def test_the_guide_begins_with_the_rarest_outcome():
    model = corridor(20)
    guide, state, taken = Guide(model, np.random.default_rng(0)), 0, 0
    while (action := guide.choose(state, np.arange(2))) or state < 19:
        state, taken = min(state + action, 19), taken + 1
        if state == 19 and action == 1 and taken >= 20:
            break
    assert taken == 20  # straight to the end


def test_the_guide_ends():
    guide, steps = Guide(corridor(5), np.random.default_rng(0)), 0
    while not guide.done:
        guide.choose(0, np.arange(1))  # it never gets anywhere
        steps += 1
    assert 0 < steps <= 2400


@pytest.mark.parametrize(("slippery", "least"), [(True, 15), (False, 20)])
def test_a_goal_that_pays_something_else_is_found_by_play_alone(slippery, least):
    """On slippery ice the way there is a matter of luck: four in five of many seeds arrive."""
    env = RichSteered(map_name="8x8", is_slippery=slippery)
    model = extract_model(env)
    found = [find_disagreement(env, model, seed=seed) for seed in range(20)]
    met = [words for words in found if words is not None]
    assert len(met) >= least
    assert all("step gives state 63, reward 5, the end; the model allows" in words for words in met)


@pytest.mark.parametrize("slippery", [True, False])
def test_a_true_model_is_not_called_wrong_where_setting_the_state_has_no_effect(slippery):
    env = Steered(map_name="8x8", is_slippery=slippery)
    model = extract_model(env)
    assert [find_disagreement(env, model, seed=seed) for seed in range(3)] == [None] * 3


def test_setting_that_has_no_effect_blames_nothing_even_where_play_does_not_look_again(monkeypatch):
    monkeypatch.setattr("rl_lab.mdp.agreement.LOOKING_STEPS", 0)
    env = Steered(map_name="8x8")
    assert find_disagreement(env, extract_model(env)) is None


def test_models_too_large_for_plans_are_played_at_random(monkeypatch):
    monkeypatch.setattr("rl_lab.mdp.agreement.MAX_OUTCOMES", 10)
    monkeypatch.setattr("rl_lab.mdp.agreement.Guide", None)  # would fail when called
    env = gymnasium.make("FrozenLake-v1")
    assert find_disagreement(env, extract_model(env)) is None

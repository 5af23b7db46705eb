"""The parts of the regret: against the enumeration of all policies, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnosed import all_choices, best_by_enumeration, return_of, small_models
from rl_lab.diagnosis.split import Splitter, free_on, return_gradient
from rl_lab.diagnosis.visited import Visits
from rl_lab.evaluation.exact import measure_regret, optimal_return
from rl_lab.function_class import Fit, OnePolicy, Table
from rl_lab.mdp.model import TabularModel

GAMMA = 0.9


class SameEverywhere:
    """Takes one action, wherever it is: two policies."""

    description = "one action"

    def fit(self, task):
        states = len(task.good)
        return Fit(max(task.evaluate(np.full(states, action)) for action in (0, 1)), 2)


def visits_of(visited, taken) -> Visits:
    return Visits(visited.astype(np.int64), taken.astype(np.int64), int(taken.sum()))


@st.composite
def cases(draw):
    """A model, a policy (deterministic or not) and what was visited and tried."""
    model = draw(small_models())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.random(model.available.shape) * model.available
    policy = weights / weights.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        policy = np.eye(model.num_actions)[weights.argmax(axis=1)]
    visited = rng.random(model.num_states) < 0.6
    taken = (rng.random(model.available.shape) < 0.6) & visited[:, None] & model.available
    return model, policy, visits_of(visited, taken)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_parts_are_those_of_all_policies_enumerated_and_add_up(case):
    model, policy, visits = case
    split = Splitter(model, policy, GAMMA, visits).split(Table(), seed=0, fits=1, steps=1)
    everywhere = np.ones(model.available.shape, bool)
    best = best_by_enumeration(model, policy, everywhere, GAMMA)
    free = best_by_enumeration(model, policy, everywhere & visits.visited[:, None], GAMMA)
    tried = best_by_enumeration(model, policy, (visits.taken > 0) & visits.visited[:, None], GAMMA)
    achieved = return_of(model, policy, GAMMA)
    assert split.exploration == pytest.approx(best - free, abs=1e-9)
    assert split.representation == 0
    assert split.rest == pytest.approx(free - achieved, abs=1e-9)
    assert split.untried == pytest.approx(free - tried, abs=1e-9)
    assert min(split.parts.values()) >= 0
    assert sum(split.parts.values()) == pytest.approx(split.regret, abs=1e-10)
    assert split.regret == pytest.approx(measure_regret(optimal_return(model, GAMMA), achieved), abs=1e-10)


@given(cases())
@settings(max_examples=20, deadline=None)
def test_representation_is_what_the_best_policy_of_a_class_lacks(case):
    model, policy, visits = case
    model = TabularModel.from_arrays(  # with all actions, so that one may be taken everywhere
        *garnet_arrays(model), initial=model.initial
    )
    split = Splitter(model, policy, GAMMA, visits).split(SameEverywhere(), seed=0, fits=1, steps=1)
    everywhere = np.ones(model.available.shape, bool)
    free = best_by_enumeration(model, policy, everywhere & visits.visited[:, None], GAMMA)
    own = return_of(model, policy, GAMMA)
    expressed = own
    for action in (0, 1):
        mixed = np.where(visits.visited[:, None], np.eye(2)[action], policy)
        expressed = max(expressed, return_of(model, mixed, GAMMA))
    assert split.representation == pytest.approx(free - expressed, abs=1e-9)
    assert split.rest == pytest.approx(expressed - own, abs=1e-9)
    assert min(split.parts.values()) >= 0
    assert sum(split.parts.values()) == pytest.approx(split.regret, abs=1e-10)


def garnet_arrays(model):
    """The outcomes of a model as arrays [S, A, B], with rewards and ends."""
    branches = len(model.probability) // model.available.size
    shape = (*model.available.shape, branches)
    return (x.reshape(shape) for x in (model.probability, model.successor, model.reward, model.terminated))


def corridor() -> TabularModel:
    """Three states in a row: action 1 goes right, at the right end it pays 1; action 0 ends with 0.1 at once."""
    rows = [(s, 0, 1.0, s, 0.1, True) for s in range(3)]
    rows += [(0, 1, 1.0, 1, 0.0, False), (1, 1, 1.0, 2, 0.0, False), (2, 1, 1.0, 2, 1.0, True)]
    return TabularModel.from_outcomes(rows, 3, 2, [1.0, 0.0, 0.0])


GIVES_UP = np.eye(2)[[0, 0, 0]]


def split_corridor(visited, taken, function_class, policy=GIVES_UP):
    visits = visits_of(np.array(visited), np.array(taken))
    return Splitter(corridor(), policy, GAMMA, visits).split(function_class, seed=0, fits=1, steps=1)


class TestByHand:
    def test_what_was_not_seen_is_exploration(self):
        """Without state 1 the best is 0.1, where 0.81 is possible: at state 1 the policy gives up with 0.09."""
        split = split_corridor([1, 0, 0], [[5, 0], [0, 0], [0, 0]], Table())
        assert split.parts == pytest.approx({"exploration": 0.71, "representation": 0.0, "rest": 0.0})
        assert (split.main, split.states, split.visited_states) == ("exploration", 3, 1)

    def test_a_policy_that_would_go_on_where_nothing_was_seen_is_not_blamed_on_it(self):
        goes_on = np.eye(2)[[0, 1, 1]]
        split = split_corridor([1, 0, 0], [[5, 0], [0, 0], [0, 0]], Table(), goes_on)
        assert split.parts == pytest.approx({"exploration": 0.0, "representation": 0.0, "rest": 0.71})
        assert split.untried == pytest.approx(0.71)

    def test_a_single_policy_is_representation(self):
        split = split_corridor([1, 1, 1], np.ones((3, 2)), OnePolicy())
        assert split.parts == pytest.approx({"exploration": 0.0, "representation": 0.71, "rest": 0.0})

    def test_an_agent_that_does_not_tell_its_class_has_two_parts(self):
        split = split_corridor([1, 1, 1], np.ones((3, 2)), None)
        assert split.representation is None
        assert split.parts == pytest.approx({"exploration": 0.0, "rest": 0.71})

    def test_the_best_policy_loses_nothing_exactly(self):
        split = split_corridor([0, 0, 0], np.zeros((3, 2)), Table(), np.eye(2)[[1, 1, 1]])
        assert (split.regret, split.main) == (0.0, None)
        assert set(split.parts.values()) == {0.0}


@given(cases())
@settings(max_examples=30, deadline=None)
def test_the_added_action_is_the_policy(case):
    model, policy, _ = case
    freed = free_on(model, policy, np.zeros(model.available.shape, bool))
    only = np.zeros(freed.available.shape)
    only[:, -1] = 1.0
    assert return_of(freed, only, GAMMA) == pytest.approx(return_of(model, policy, GAMMA), abs=1e-10)
    assert len(list(all_choices(freed.available))) == 1


def test_the_gradient_of_the_return_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    model = corridor()
    policy = rng.dirichlet(np.ones(2), 3)
    found, small = return_gradient(model, policy, GAMMA), 1e-6
    for s in range(3):
        change = np.zeros((3, 2))
        change[s] = small, -small  # along which it stays a distribution
        up, down = (return_of(model, policy + sign * change, GAMMA) for sign in (1, -1))
        assert (up - down) / (2 * small) == pytest.approx(found[s, 0] - found[s, 1], abs=1e-6)

"""At gamma = 1 a policy that earns without end is found before any method starts."""

from __future__ import annotations

from itertools import product
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.mdp import endless, undiscounted
from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged, list_rows
from rl_lab.mdp.solve import solve

ONE_STATE = [(0, 0, 1.0, 0, 0.0, True), (0, 1, 1.0, 0, 1.0, False)]  # ends with 0, or stays with +1
# States 1 and 2 go to and fro for +3 and -2; state 0 only leads there; every state can end.
TO_AND_FRO = [
    (0, 0, 1.0, 1, 0.0, False), (0, 1, 1.0, 0, 0.0, True),
    (1, 0, 1.0, 2, 3.0, False), (1, 1, 1.0, 0, 0.0, True),
    (2, 0, 1.0, 1, -2.0, False), (2, 1, 1.0, 0, 0.0, True),
]  # fmt: skip
# The same for +3 and -4: something is lost in the long run, and leaving after the gain is best.
AT_A_LOSS = [(s, a, p, t, -4.0 if r == -2 else r, e) for s, a, p, t, r, e in TO_AND_FRO]


def model_of(outcomes, states):
    return TabularModel.from_outcomes(outcomes, states, 2, np.eye(states)[0])


@pytest.fixture
def no_sweep(monkeypatch):
    """Fail where a method is called at all."""
    for name in METHODS:
        monkeypatch.setitem(METHODS, name, lambda task: pytest.fail("a method was started"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("outcomes", "states", "named"), [(ONE_STATE, 1, 0), (TO_AND_FRO, 3, 1)])
def test_an_infinite_optimum_is_refused_before_the_first_sweep(no_sweep, method, outcomes, states, named):
    with pytest.raises(
        NeverEnds, match=rf"^gamma = 1: from state {named} a policy earns without end, .* take gamma below 1$"
    ):
        solve(model_of(outcomes, states), 1.0, method)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_earned_and_lost_again_is_finite(method):
    assert solve(model_of(AT_A_LOSS, 3), 1.0, method).v == pytest.approx([3.0, 3.0, 0.0], abs=1e-9)


def test_a_way_out_by_chance_makes_it_finite():
    leaving = [(0, 0, 0.1, 0, 1.0, True), (0, 0, 0.9, 0, 1.0, False), (0, 1, 1.0, 0, 0.0, True)]
    assert solve(model_of(leaving, 1), 1.0).v == pytest.approx([10.0])


def ring(states, loss):
    """Go round for +1 once and -loss elsewhere, or end for 0."""
    on = [(s, 0, 1.0, (s + 1) % states, 1.0 if s == 7 else -loss, False) for s in range(states)]
    return model_of(on + [(s, 1, 1.0, s, 0.0, True) for s in range(states)], states)


def corridor(states, left=-1e-6, right=-1e-6, far=1.0):
    """Move left or right, stay at the far end, or end for 0."""
    here = np.arange(states)
    to = np.stack([np.maximum(here - 1, 0), np.minimum(here + 1, states - 1), here], axis=1)[:, :, None]
    reward, ends = np.zeros(to.shape), np.zeros(to.shape, bool)
    reward[:, 0], reward[:, 1], reward[-1, 1], ends[:, 2] = left, right, far, True
    return TabularModel.from_arrays(np.ones(to.shape), to.astype(np.int32), reward, ends)


def grid(side, bump, right=-1.0):
    """Move for -1 and end in the last corner; in the first one, bumping up and going right pay otherwise."""
    row, column = np.divmod(np.arange(side * side), side)
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))
    last = side - 1
    to = np.stack([np.clip(row + r, 0, last) * side + np.clip(column + c, 0, last) for r, c in moves], axis=1)
    reward = np.full((*to.shape, 1), -1.0)
    reward[0, 0], reward[0, 1] = bump, right
    to = to[:, :, None]
    return TabularModel.from_arrays(np.ones(to.shape), to.astype(np.int32), reward, to == side * side - 1)


def require_bounded_in(model):
    """Do what the solver does before its first sweep."""
    rows = list_rows(model)
    free, label = undiscounted.find_free_rows(rows)
    endless.require_bounded(undiscounted.merge_free(rows, free, label), label)


@pytest.mark.parametrize(
    "model", [lambda: grid(80, 0.01), lambda: corridor(12_000), lambda: ring(1_500, 1 / 3_000)]
)
def test_an_infinite_optimum_of_a_large_model_is_refused_before_the_first_sweep(no_sweep, model):
    with pytest.raises(NeverEnds, match="earns without end"):
        solve(model(), 1.0)


def test_a_finite_optimum_of_a_large_model_is_found():
    """Going right from the first corner pays 1/2, and to go back costs 1."""
    assert solve(grid(80, -1.0, right=0.5), 1.0).v[0] == pytest.approx(0.5 - 157)


@pytest.mark.parametrize(
    "model", [lambda: corridor(12_000, left=-2.0, right=1.0, far=-1.0), lambda: ring(1_500, 1 / 700)]
)
def test_a_long_way_up_that_costs_more_on_the_way_back_is_finite(model):
    require_bounded_in(model())


@pytest.mark.parametrize("large", [False, True])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_is_refused_just_where_some_policy_earns_on_average(large, data):
    """The twin tries all deterministic policies of a model of three states, all of which can end."""
    states = 3
    draw = lambda numbers: data.draw(st.sampled_from(numbers))  # noqa: E731
    outcomes, steps = [], {}
    for s in range(states):
        outcomes.append((s, 0, 1.0, s, 0.0, True))
        one, other, reward = draw(range(states)), draw(range(states)), draw([-2.0, -1.0, 1.0, 3.0])
        steps[s] = [(0.5, one), (0.5, other)], reward
        outcomes += [(s, 1, p, t, reward, False) for p, t in steps[s][0]]
    infinite = False
    for choice in product([0, 1], repeat=states):
        chain, reward = np.zeros((states, states)), np.zeros(states)
        for s in range(states):
            if choice[s]:
                reward[s] = steps[s][1]
                for p, t in steps[s][0]:
                    chain[s, t] += p
        power = np.linalg.matrix_power((chain + np.eye(states)) / 2, 4096)  # where it stays for ever
        infinite = infinite or bool((power @ reward > 1e-9).any())
    model = TabularModel.from_outcomes(outcomes, states, 2, np.eye(states)[0])
    refused = ""
    with patch.object(endless, "is_large", lambda rows: large):
        try:
            assert np.isfinite(solve(model, 1.0).v).all()
        except (NeverEnds, NotConverged) as error:  # going round for nothing ties with ending
            refused = str(error)
    assert ("earns without end" in refused) == infinite


@pytest.mark.parametrize("sweeps", [0, 1_000])
def test_what_is_earned_and_lost_in_turn_up_to_rounding_is_not_refused(monkeypatch, sweeps):
    """0.1 + 0.2 - 0.3 is 5.6e-17 in float64."""
    monkeypatch.setattr(endless, "is_large", lambda rows: True)
    monkeypatch.setattr(endless, "SWEEPS", sweeps)
    turns = [(s, 0, 1.0, (s + 1) % 3, reward, False) for s, reward in enumerate((0.1, 0.2, -0.3))]
    require_bounded_in(model_of(turns + [(s, 1, 1.0, s, -1.0, True) for s in range(3)], 3))

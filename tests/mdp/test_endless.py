"""At gamma = 1 a policy that earns without end is found before any method starts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.mdp import endless
from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged
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


@pytest.mark.parametrize("large", [False, True])
def test_a_large_component_is_decided_by_sweeps(monkeypatch, large):
    """A ring of 40 states with +1 once and -1/50 elsewhere earns; with -1/30 it loses."""
    monkeypatch.setattr(endless, "is_large", lambda rows: large)
    monkeypatch.setattr(endless, "SWEEPS", 300_000)
    for loss, earns in ((1 / 50, True), (1 / 30, False)):
        ring = [(s, 0, 1.0, (s + 1) % 40, 1.0 if s == 7 else -loss, False) for s in range(40)]
        ends = [(s, 1, 1.0, s, 0.0, True) for s in range(40)]
        if earns:
            with pytest.raises(NeverEnds, match="earns without end"):
                solve(model_of(ring + ends, 40), 1.0)
        else:
            assert solve(model_of(ring + ends, 40), 1.0).v.max() == pytest.approx(1.0)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_is_refused_just_where_some_policy_earns_on_average(data):
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
    if infinite:
        with pytest.raises(NeverEnds):
            solve(model, 1.0, "value-iteration", max_sweeps=2_000)
        return
    refused = ""
    try:
        assert np.isfinite(solve(model, 1.0).v).all()
    except (NeverEnds, NotConverged) as error:  # going round for nothing ties with ending
        refused = str(error)
    assert "earns without end" not in refused

"""The n-step targets of a model, against all paths enumerated one by one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnosed import small_models, two_states
from rl_lab.mdp.td_targets import TooManyTargets, n_step_targets


def enumerate_paths(model, behaviour, gamma, n_steps, state, action):
    """The distribution of (reward, discount, state) of the targets of one pair, path by path."""
    found = defaultdict(float)

    def walk(probability, total, discount, row, left):
        for k in range(model.indptr[row], model.indptr[row + 1]):
            p, reward = probability * model.probability[k], total + discount * model.reward[k]
            if model.terminated[k]:
                found[round(reward, 9), 0.0, 0] += p
            elif left == 1:
                found[round(reward, 9), round(discount * gamma, 9), int(model.successor[k])] += p
            else:
                for a in np.flatnonzero(behaviour[model.successor[k]]):
                    next_row = model.successor[k] * model.num_actions + a
                    walk(p * behaviour[model.successor[k], a], reward, discount * gamma, next_row, left - 1)

    walk(1.0, 0.0, 1.0, state * model.num_actions + action, n_steps)
    return {key: p for key, p in found.items() if p > 1e-12}


@given(small_models(), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_targets_are_those_of_all_paths(model, n_steps):
    behaviour = model.available / model.available.sum(axis=1, keepdims=True)
    targets = n_step_targets(model, behaviour, 0.9, n_steps)
    assert np.all(np.diff(targets.row) >= 0)
    for state, action in np.argwhere(model.available):
        mine = targets.row == state * model.num_actions + action
        columns = (np.round(targets.reward, 9), np.round(targets.discount, 9), targets.state)
        keys = zip(*(column[mine].tolist() for column in columns), strict=True)
        found = dict(zip(keys, targets.probability[mine], strict=True))
        expected = enumerate_paths(model, behaviour, 0.9, n_steps, state, action)
        assert found.keys() == expected.keys()
        assert all(found[key] == pytest.approx(p, abs=1e-12) for key, p in expected.items())


def test_equal_targets_are_one():
    """From the paying state: it ends at once or after one step with 1, after two with 1.81, or goes on."""
    targets = n_step_targets(two_states(), np.full((2, 2), 0.5), 0.9, 3)
    mine = targets.row == 2
    assert targets.probability[mine] == pytest.approx([0.19, 0.081, 0.729])
    assert targets.reward[mine] == pytest.approx([1.0, 1.81, 1.81])
    assert targets.discount[mine] == pytest.approx([0.0, 0.0, 0.729])


def test_rewards_are_clipped_step_by_step():
    targets = n_step_targets(two_states(), np.full((2, 2), 0.5), 0.9, 3, reward_clip=0.25)
    assert targets.reward[targets.row == 2] == pytest.approx([0.25, 0.4525, 0.4525])


def test_too_many_are_refused():
    with pytest.raises(TooManyTargets, match="targets are more than 5"):
        n_step_targets(two_states(), np.full((2, 2), 0.5), 0.9, 3, most=5)

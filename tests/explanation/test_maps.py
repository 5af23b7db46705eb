"""The numbers of a grid's cells against the solution of its model."""

from __future__ import annotations

import json

import numpy as np

from rl_lab.environments.layout import layout_of
from rl_lab.environments.make import make_env
from rl_lab.explanation.maps import grid_numbers
from rl_lab.explanation.optimum import Optimum, optimum_of
from rl_lab.policies import ValuePolicy


def solved():
    env = make_env("FrozenLake-v1", {"is_slippery": False})
    return layout_of(env), optimum_of(env, 0.9)


def test_an_optimal_policy_has_optimal_values_and_loses_nowhere():
    layout, optimum = solved()
    policy = ValuePolicy(lambda obs, state, first: (optimum.solution.q[obs], ()), 4)
    found = grid_numbers(policy, layout, optimum)
    assert (found.height, found.width, len(found.cells)) == (4, 4, 16)
    for cell in found.cells:
        assert cell.state == 4 * cell.row + cell.column
        assert not cell.loses
        assert cell.value is None or cell.value == cell.optimal_value
    assert [cell.kind for cell in found.cells[:6]] == ["S", ".", ".", ".", ".", "P"]
    assert not found.cells[5].acting
    assert found.cells[14].actions == [2]
    assert found.moves[2] == [0.0, 1.0]
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_policy_that_runs_into_a_pit_loses_there():
    layout, optimum = solved()
    policy = ValuePolicy(lambda obs, state, first: (np.eye(4)[np.full(len(obs), 2)], ()), 4)  # always right
    found = grid_numbers(policy, layout, optimum)
    assert found.cells[4].loses
    assert not found.cells[14].loses
    assert found.cells[4].probabilities == [0.0, 0.0, 1.0, 0.0]


def test_where_there_is_no_map_a_reason_is_given():
    layout, optimum = solved()
    policy = ValuePolicy(
        lambda obs, state, first: (np.zeros((len(obs), 4)), ()), 4, lambda n: (np.zeros((n, 1)),)
    )
    assert "memory" in grid_numbers(policy, layout, optimum)
    assert "grid" in grid_numbers(policy, None, optimum)
    assert grid_numbers(policy, layout, Optimum("no model")) == "no model"

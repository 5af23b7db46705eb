"""The mazes: shortest paths, and what a change leaves as it was."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_envs import best_return, make, model_of


class TestDynaMaze:
    @pytest.mark.parametrize(
        ("maze", "changed", "steps"),
        [
            ("dyna", False, 14),
            ("blocking", False, 10),
            ("blocking", True, 16),
            ("shortcut", False, 16),
            ("shortcut", True, 10),
        ],
    )
    def test_shortest_way(self, maze, changed, steps):
        value = best_return(model_of("DynaMaze", maze=maze, changed=changed), 0.95)
        assert value == pytest.approx(0.95 ** (steps - 1), rel=1e-12)

    def test_a_change_keeps_the_numbers_of_the_cells(self):
        old, new = (model_of("DynaMaze", maze="blocking", changed=changed) for changed in (False, True))
        assert old.num_states == new.num_states == 54
        moved = np.flatnonzero((old.expected_reward != new.expected_reward).any(axis=1))
        assert moved.size == 0  # the goal is where it was
        np.testing.assert_array_equal(old.initial, new.initial)

    @pytest.mark.parametrize(
        ("fields", "message"), [({"maze": "x"}, "maze 'x'"), ({"changed": True}, "changed True")]
    )
    def test_refusals(self, fields, message):
        with pytest.raises(ValueError, match=message):
            make("DynaMaze", **fields)

"""Seeds that hyperparameters were chosen on are named where they are used again."""

from __future__ import annotations

import pytest

from rl_lab.evaluation.comparison.tuning_seeds import reuse_warning, reused_seeds


def test_reused_seeds_are_found():
    assert reused_seeds([3, 1, 2], [2, 3, 9]) == [2, 3]
    assert reused_seeds([1, 2], [3]) == []


def test_they_are_named_with_seeds_to_take_instead():
    warning = reuse_warning("tuned:CartPole-v1", range(100, 105), [0, 104, 103])
    assert "preset tuned:CartPole-v1 was chosen on seeds 103, 104" in warning
    assert warning.endswith("(untouched: seeds from 105)")


@pytest.mark.parametrize(("chosen_on", "seeds"), [([], [0, 1]), ([100, 101], [0, 1]), ([5], [])])
def test_nothing_is_said_where_none_is_reused(chosen_on, seeds):
    assert reuse_warning("p", chosen_on, seeds) is None

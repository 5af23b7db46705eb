"""Performance profiles."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.comparison.profiles import performance_profile
from rl_lab.types import UsageError
from score_tables import RLIABLE_PROFILE_OF_X, THRESHOLDS, X


def test_by_hand():
    profile = performance_profile([[0.0, 1.0], [2.0, 3.0]], [-1.0, 0.0, 1.5, 3.0])
    assert profile.value.tolist() == [1.0, 0.75, 0.5, 0.0]  # above a threshold means greater


def test_it_agrees_with_what_rliable_printed():
    assert performance_profile(X, THRESHOLDS).value.tolist() == pytest.approx(RLIABLE_PROFILE_OF_X)


def test_its_band_is_the_interval_of_the_fraction():
    profile = performance_profile(X, THRESHOLDS, resamples=20_000)
    for p, threshold in enumerate(THRESHOLDS):
        alone = aggregate_interval(threshold < X, resamples=20_000, aggregate=lambda x: x.mean((-2, -1)))
        assert (profile.value[p], profile.low[p], profile.high[p]) == pytest.approx(alone, abs=0.06)
    assert (profile.low <= profile.value).all()
    assert (profile.value <= profile.high).all()


def test_it_falls_from_one_to_zero():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    profile = performance_profile(scores, np.linspace(-9, 9, 50), resamples=100)
    assert (np.diff(profile.value) <= 0).all()
    assert (profile.value[0], profile.value[-1]) == (1.0, 0.0)


@pytest.mark.parametrize("thresholds", [0.5, [0.0, np.nan], [[0.0]]])
def test_thresholds_are_a_list_of_finite_numbers(thresholds):
    with pytest.raises(UsageError, match="thresholds must be"):
        performance_profile([1.0, 2.0], thresholds)

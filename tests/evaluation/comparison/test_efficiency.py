"""Sample-efficiency curves."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.evaluation.comparison.aggregates import mean
from rl_lab.evaluation.comparison.efficiency import efficiency_curve
from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.types import UsageError

A = [([0, 10, 20], [0.0, 1.0, 2.0]), ([0, 20], [0.0, 4.0])]  # two runs of one task
B = [([0, 20], [10.0, 10.0]), ([5, 20], [10.0, 40.0])]


def test_by_hand():
    steps, band = efficiency_curve([A, B], mean)
    assert steps.tolist() == [5, 10, 20]  # run 2 of B begins at 5
    assert band.value.tolist() == [(0.5 + 1 + 10 + 10) / 4, (1 + 2 + 10 + 20) / 4, (2 + 4 + 10 + 40) / 4]


def test_its_band_is_the_interval_of_the_runs_at_each_point():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 6, 3))  # [tasks, runs, points]
    curves = [[([1.5, 2.5, 4.0], run) for run in task] for task in values]
    seconds, band = efficiency_curve(curves, resamples=4000)
    assert seconds.tolist() == [1.5, 2.5, 4.0]
    for p in range(3):
        alone = aggregate_interval(values[:, :, p].T, resamples=4000, seed=1)
        assert (band.value[p], band.low[p], band.high[p]) == pytest.approx(alone, abs=0.12)


def test_a_grid_is_cut_to_what_all_runs_have():
    steps, band = efficiency_curve([A, B], mean, grid=[0, 15, 15, 10, 30])
    assert steps.tolist() == [10, 15]
    assert band.value.tolist() == [(1 + 2 + 10 + 20) / 4, (1.5 + 3 + 10 + 30) / 4]


@pytest.mark.parametrize("grid", [None, [1.0]])
def test_without_a_common_range_everything_is_empty(grid):
    steps, band = efficiency_curve([[([0, 1], [0, 1]), ([2, 3], [0, 1])]], grid=grid)
    assert [len(a) for a in (steps, *band)] == [0, 0, 0, 0]


def test_a_grid_outside_the_range_leaves_nothing():
    assert len(efficiency_curve([A], grid=[50.0])[0]) == 0


@pytest.mark.parametrize("tasks", [[], [[]], [A, A[:1]]])
def test_tasks_need_as_many_runs(tasks):
    with pytest.raises(UsageError, match="the same number, at least 1"):
        efficiency_curve(tasks)

"""What the statistics take as scores, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rl_lab.evaluation.comparison.differences import permutation_test
from rl_lab.evaluation.comparison.improvement import improvement_interval
from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.comparison.power import power_note
from rl_lab.evaluation.comparison.scores import score_table
from rl_lab.evaluation.comparison.sequential import SequentialTest
from rl_lab.types import UsageError


def test_scores_of_one_task_are_a_table_of_one_column():
    assert score_table([1, 2, 3]).tolist() == [[1.0], [2.0], [3.0]]
    assert score_table([[1, 2], [3, 4]]).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], r"have the shape \(0,\)"),
        (3.0, r"have the shape \(\)"),
        (np.zeros((2, 2, 2)), r"have the shape \(2, 2, 2\)"),
        ([1.0, math.nan], "nan or inf"),
        ([[1.0], [math.inf]], "nan or inf"),
        ([[1.0, 2.0], [3.0]], "not a table"),
        (["a"], "not a table"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        aggregate_interval,
        lambda scores: improvement_interval([1.0, 2.0], scores),
        lambda scores: permutation_test(scores, [1.0, 2.0]),
        lambda scores: power_note(scores, [1.0, 2.0]),
        lambda scores: SequentialTest(group_size=2).look({"a": scores, "b": [1.0, 2.0]}),
    ],
)
def test_unusable_scores_are_refused_everywhere(use, scores, message):
    with pytest.raises(UsageError, match=message):
        use(scores)


@pytest.mark.parametrize("use", [improvement_interval, permutation_test, power_note])
def test_two_agents_need_the_same_tasks(use):
    with pytest.raises(UsageError, match="x has 2 tasks and y has 1"):
        use([[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0])


@pytest.mark.parametrize("use", [permutation_test, power_note])
def test_only_pairs_need_as_many_runs(use):
    use([1.0, 2.0, 4.0], [1.0, 2.0], paired=False)
    with pytest.raises(UsageError, match="x has 3 runs and y has 2: pairs"):
        use([1.0, 2.0, 4.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"confidence": 1.0}, "confidence must be between 0 and 1, got 1.0"),
        ({"resamples": 0}, "resamples must be a whole number of at least 1, got 0"),
        ({"resamples": 10.0}, "resamples must be a whole number"),
    ],
)
def test_numbers_out_of_range_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        aggregate_interval([1.0, 2.0], **fields)

"""Early stopping: hand-computed sequences of evaluation returns."""

from __future__ import annotations

import pytest

from rl_lab.runs.early_stopping import EarlyStopping


def stops_at(rule, returns):
    """The number of evaluations after which the rule says stop; None: it never does."""
    for k, value in enumerate(returns, 1):
        if rule.observe(value) is not None:
            return k
    return None


NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "returns", "expected"),
    [
        ({}, [1, 1, 1, 0, -5], None),
        ({"threshold": 10}, [1, 9.9, 10, 3], 3),
        ({"threshold": 10}, [NAN, 1], None),
        ({"patience": 1}, [1, 1], 2),
        ({"patience": 2}, [1, 0, 0], 3),
        ({"patience": 2}, [1, 0, 2, 1, 0], 5),  # a new best starts the count anew
        ({"patience": 2}, [1, 0, 1, 5], 3),  # as good is no better
        ({"patience": 2}, [-9, -8, -7, -6], None),
        ({"patience": 2, "min_delta": 1}, [0, 0.9, 1.0], 3),  # has to exceed the best by more than 1
        ({"patience": 2, "min_delta": 1}, [0, 0.9, 1.1, 2, 2.2], None),
        ({"patience": 2}, [NAN, NAN], 2),
        ({"patience": 2, "threshold": 5}, [1, 0, 7], 3),
    ],
)
def test_stops_where_computed_by_hand(fields, returns, expected):
    assert stops_at(EarlyStopping(**fields), returns) == expected


def test_says_why_in_a_line():
    assert EarlyStopping(threshold=475).observe(480.0) == "the evaluation return 480 has reached 475"
    rule = EarlyStopping(patience=1, min_delta=2)
    assert rule.observe(3.0) is None
    assert rule.observe(4.0) == "no evaluation return above 5 in 1 evaluations"


def test_a_restored_rule_goes_on_where_it_was():
    import json

    returns = [NAN, 1, 0, 2, 1, 1, 1]
    for cut in range(len(returns)):
        rule, other = EarlyStopping(patience=3), EarlyStopping(patience=3)
        for value in returns[:cut]:
            rule.observe(value)
        other.load_state_dict(json.loads(json.dumps(rule.state_dict(), allow_nan=False)))
        assert [other.observe(v) for v in returns[cut:]] == [rule.observe(v) for v in returns[cut:]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"patience": 0}, "patience must be at least 1 evaluation, got 0"),
        ({"min_delta": -1}, "min_delta must be at least 0, got -1"),
        ({"min_delta": NAN}, "min_delta must be at least 0, got nan"),
    ],
)
def test_values_out_of_range_are_refused_by_name(fields, says):
    with pytest.raises(ValueError, match=says):
        EarlyStopping(**fields)

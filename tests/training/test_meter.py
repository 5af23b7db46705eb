"""Averages since the last row."""

from __future__ import annotations

import json

import pytest

from rl_lab.training.meter import Meter


def test_averages_each_name_over_the_updates_that_have_it():
    meter = Meter()
    for metrics in ({"loss": 1.0, "q_max": 2.0}, {"loss": 3.0, "q_max": -1.0}, {"loss": 5.0, "kl": 0.5}):
        meter.add(metrics)
    assert meter.take() == {"loss": 3.0, "q_max": 2.0, "kl": 0.5}
    assert meter.take() == {}


def test_maximum_of_negative_values_is_negative():
    meter = Meter()
    meter.add({"q_max": -3.0})
    assert meter.take() == {"q_max": -3.0}


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_restored_one_goes_on_where_it_was(cut):
    updates = [{"loss": 1.0, "q_max": 7.0}, {"loss": 4.0, "q_max": 2.0}]
    meter, other = Meter(), Meter()
    for metrics in updates[:cut]:
        meter.add(metrics)
    other.load_state_dict(json.loads(json.dumps(meter.state_dict())))
    for metrics in updates[cut:]:
        meter.add(metrics)
        other.add(metrics)
    assert other.take() == meter.take() == {"loss": 2.5, "q_max": 7.0}

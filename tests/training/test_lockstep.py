"""How the time of a process is divided among runs that go on side by side."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rl_lab.runs.clock import Clock
from rl_lab.training.lockstep import Turns
from rl_lab.training.together import _Group


class Hand:
    """A clock whose time is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def test_seconds_are_shared_but_for_what_a_run_does_alone():
    hand = Hand()
    turns = Turns(3, hand)
    hand.now += 6
    assert [turns.seconds(k) for k in range(3)] == [2, 2, 2]
    with turns.alone(1):
        hand.now += 5
        assert turns.seconds(1) == 7  # inside, too
    hand.now += 3
    assert [turns.seconds(k) for k in range(3)] == [3, 8, 3]
    turns.leave(1)
    hand.now += 4
    with turns.alone(1):  # it ends
        hand.now += 1
    assert [turns.seconds(k) for k in range(3)] == [5, 9, 5]
    assert sum(turns.seconds(k) for k in range(3)) == hand.now - 100


def test_the_last_run_to_leave_takes_no_more_time():
    hand = Hand()
    turns = Turns(1, hand)
    turns.leave(0)
    hand.now += 4
    assert turns.seconds(0) == 0


def test_a_pause_of_one_run_costs_the_others_nothing():
    hand = Hand()
    turns = Turns(2, hand)
    one, other = (Clock(now=lambda k=k: turns.seconds(k), cpu=lambda: 0.0) for k in range(2))
    one.start(), other.start()
    hand.now += 2
    with turns.alone(0), one.pause(), one.evaluating():
        hand.now += 10
    hand.now += 2
    assert (one.train_seconds, other.train_seconds) == (2, 2)
    assert one.spent()["evaluation"] == 10
    assert other.spent()["evaluation"] == other.spent()["other"] == 0


def test_a_signal_asks_all_runs_to_stop():
    runs = [SimpleNamespace(stop_requested=False, pulse=(k, 10 * k)) for k in range(3)]
    group = _Group(runs)
    assert not group.stop_requested
    assert group.pulse == (2, 30)
    group.stop_requested = True
    assert all(run.stop_requested for run in runs)
    assert group.stop_requested


@pytest.mark.parametrize("number", [1, 4])
def test_runs_that_all_take_part_have_equal_shares(number):
    hand = Hand()
    turns = Turns(number, hand)
    hand.now += 8
    assert {turns.seconds(k) for k in range(number)} == {8 / number}

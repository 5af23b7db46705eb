"""The clock, with a time that the test sets."""

from __future__ import annotations

import multiprocessing
import time as system

import pytest

from rl_lab.runs.clock import Clock, RareCpuOfTree, cpu_of_tree


class Time:
    """Seconds that go on when the test says so; the system's clock is somewhere else."""

    def __init__(self):
        self.seconds = 100.0

    def now(self):
        return self.seconds

    def wall(self):
        return 1e9 + self.seconds

    def cpu(self):
        return 2 * self.seconds  # two processes at work


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def clock(time):
    return Clock(time.now, time.wall, time.cpu)


def seconds(clock):
    return clock.train_seconds, clock.wall_seconds


def test_counts_from_its_making(clock, time):
    assert seconds(clock) == (0.0, 0.0)
    time.seconds += 5
    assert seconds(clock) == (5.0, 5.0)


def test_training_that_was_done_before_the_start_is_added(clock, time):
    clock.start()
    clock.add(7.0)
    time.seconds += 2.0
    assert clock.train_seconds == 9.0
    assert clock.spent()["training"] == 2.0  # in this session


def test_set_up_is_no_training(clock, time):
    time.seconds += 5
    clock.start()
    time.seconds += 2
    assert seconds(clock) == (2.0, 7.0)


def test_a_pause_before_the_start_is_not_taken_off_again(clock, time):
    with clock.pause():
        time.seconds += 5
    clock.start()
    time.seconds += 2
    assert seconds(clock) == (2.0, 7.0)


def test_stands_still_in_a_pause(clock, time):
    time.seconds += 1
    with clock.pause():
        time.seconds += 10
        assert clock.train_seconds == 1.0
    time.seconds += 2
    assert seconds(clock) == (3.0, 13.0)


def test_a_pause_within_a_pause_counts_once(clock, time):
    with clock.pause():
        time.seconds += 10
        with clock.pause():
            time.seconds += 20
        time.seconds += 30
        assert clock.train_seconds == 0.0
    time.seconds += 1
    assert seconds(clock) == (1.0, 61.0)


def test_goes_on_after_a_pause_that_an_error_ended(clock, time):
    def fail():
        with clock.pause():
            time.seconds += 10
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    time.seconds += 1
    assert clock.train_seconds == 1.0


def test_a_resumed_run_adds_to_the_seconds_before(clock, time):
    time.seconds += 3
    with clock.pause():
        time.seconds += 4
        state = clock.state_dict()
    assert state == {"train_seconds": 3.0, "wall_seconds": 7.0, "cpu_seconds": 14.0, "compile_seconds": 0.0}
    time.seconds += 1000  # nothing runs
    later = Clock(time.now, time.wall, time.cpu)
    later.load_state_dict(state)
    time.seconds += 1
    later.start()
    time.seconds += 2
    assert seconds(later) == (5.0, 10.0)


def test_seconds_of_this_session_are_told_by_what_they_were_spent_on(clock, time):
    clock.load_state_dict({"train_seconds": 50.0, "wall_seconds": 60.0})
    clock.start()
    time.seconds += 3.0
    with clock.pause():
        time.seconds += 1.0
        with clock.evaluating():
            time.seconds += 6.0
        with clock.saving():
            time.seconds += 0.5
    assert clock.spent() == {"training": 3.0, "evaluation": 6.0, "checkpoints": 0.5, "other": 1.0}


def test_cpu_seconds_are_those_since_the_start_of_all_sessions(clock, time):
    time.seconds += 5
    assert clock.cpu_seconds == 10.0
    clock.start()  # set-up is work, too
    with clock.pause():
        time.seconds += 1
    assert clock.cpu_seconds == 12.0
    later = Clock(time.now, time.wall, time.cpu)
    later.load_state_dict(clock.state_dict())
    time.seconds += 2
    assert later.cpu_seconds == 16.0


def test_compiling_is_added_up_apart_and_stays_a_part_of_training(clock, time):
    clock.start()
    with clock.compiling():
        time.seconds += 4
    time.seconds += 1
    assert (clock.compile_seconds, clock.train_seconds) == (4.0, 5.0)
    later = Clock(time.now, time.wall, time.cpu)
    later.load_state_dict(clock.state_dict())
    with later.compiling():
        time.seconds += 2
    assert later.compile_seconds == 6.0


def test_a_state_of_an_older_version_has_no_such_seconds(clock):
    clock.load_state_dict({"train_seconds": 1.0, "wall_seconds": 2.0})
    assert (clock.cpu_seconds, clock.compile_seconds) == (0.0, 0.0)


def _spin(seconds, done, leave):
    end = system.process_time() + seconds
    while system.process_time() < end:
        pass
    done.set()
    leave.wait(20)


def test_the_work_of_other_processes_counts_while_they_live_and_after_they_ended():
    context = multiprocessing.get_context("fork")
    done, leave = context.Event(), context.Event()
    before = cpu_of_tree()
    child = context.Process(target=_spin, args=(0.3, done, leave))
    child.start()
    assert done.wait(60)
    alive = cpu_of_tree() - before
    leave.set()
    child.join()
    ended = cpu_of_tree() - before
    assert 0.28 < alive <= ended + 0.011  # the system counts in hundredths of a second


def test_clocks_that_are_read_often_look_at_other_processes_once_a_second_and_when_one_ends(time):
    context = multiprocessing.get_context("fork")
    done, leave = context.Event(), context.Event()
    read = RareCpuOfTree(time.now)
    before = read()
    child = context.Process(target=_spin, args=(0.3, done, leave))
    child.start()
    assert done.wait(60)
    time.seconds += 0.9
    assert read() - before < 0.28
    time.seconds += 0.1
    alive = read() - before
    leave.set()
    child.join()
    assert 0.28 < alive <= read() - before + 0.011

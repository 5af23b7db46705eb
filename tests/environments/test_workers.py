"""Environments in worker processes that raise, hang or die: a clear error, a quick close, no orphans."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from faulty import Faulty
from rl_lab.environments import workers as workers_of
from rl_lab.environments.make import vector_of
from rl_lab.types import EnvironmentFault, UsageError

PATIENCE = 60.0  # seconds, since a machine may be busy


def first_breaks(fault: str, at: int) -> Faulty:
    """Make an environment; that of the first worker process is faulty."""
    first = multiprocessing.current_process().name.endswith("-0")
    return Faulty(fault if first else "", at)


@pytest.fixture
def workers():
    """Make vectors in worker processes; afterwards none of their processes is alive."""
    opened, before = [], set(multiprocessing.active_children())

    def make(fault: str, at: int, make_one=Faulty):
        made = vector_of(partial(make_one, fault, at), 2, vector="async", env_timeout_seconds=PATIENCE)
        opened.append(made)
        return made

    yield make
    for envs in opened:
        envs.close()
        assert not any(process.is_alive() for process in envs.envs.processes)
    assert set(multiprocessing.active_children()) <= before


def play(envs, steps: int = 100):
    envs.reset(seed=[3, 4])
    for _ in range(steps):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("kill", r"was killed by signal 9 \(exit code -9\)"),
        ("exit", r"ended \(exit code 7\)"),
    ],
)
@pytest.mark.parametrize("at", [0, 60])
def test_a_dead_worker_is_named_with_its_exit_code(workers, fault, cause, at):
    moment = f"step {at}" if at else "reset"
    with pytest.raises(
        EnvironmentFault, match=rf"number 0 \(worker process, seed 3, {moment}\): its process {cause}"
    ):
        play(workers(fault, at, first_breaks))


def test_steps_are_counted_from_the_last_reset(workers):
    envs = workers("", 0)
    play(envs, steps=70)
    envs.reset(seed=[5, None], options={"reset_mask": np.array([True, False])})
    envs.step(np.zeros(2, np.int64))
    for process in envs.envs.processes:
        process.kill()
        process.join()
    with pytest.raises(EnvironmentFault, match=r"number 0 \(worker process, seed 5, step 2\)"):
        envs.step(np.zeros(2, np.int64))


@pytest.mark.parametrize("at", [0, 60])
def test_a_hang_is_found_within_its_time(workers, at):
    moment = f"step {at}" if at else "reset"
    envs = workers("hang", at)
    if at:
        play(envs, at - 1)
    envs._timeout = 0.5  # only now, since what comes before may take longer on a busy machine
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault, match=rf"number 0 .*seed 3, {moment}\): no answer within 0\.5 s"):
        envs.step(np.zeros(2, np.int64)) if at else envs.reset(seed=[3, 4])
    assert time.monotonic() - begun < PATIENCE  # far from the hour that the environment sleeps
    begun = time.monotonic()
    envs.close()
    assert time.monotonic() - begun < PATIENCE


def test_an_error_in_a_worker_comes_without_its_traceback(workers, capfd, recwarn):
    envs = workers("raise", 60)
    with pytest.raises(
        EnvironmentFault, match=r"number [01], seed [34], step 60\): step raised RuntimeError"
    ):
        play(envs)
    envs.close()
    assert "Traceback" not in capfd.readouterr().err
    assert not [w for w in recwarn if "Worker" in str(w.message)]


def test_a_worker_that_died_between_steps_is_named_too(workers):
    envs = workers("", 0)
    envs.reset(seed=[3, 4])
    envs.envs.processes[1].kill()
    envs.envs.processes[1].join()
    with pytest.raises(EnvironmentFault, match=r"number 1 .*killed by signal 9"):
        envs.step(np.zeros(2, np.int64))


def test_closing_twice_is_harmless(workers):
    envs = workers("", 0)
    envs.close()
    envs.close()


class Unmakeable(Faulty):
    """Fails where it is made in a process of its own."""

    def __init__(self):
        super().__init__()
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no licence here")


def test_an_environment_that_cannot_be_made_in_a_worker_is_refused():
    with pytest.raises(UsageError, match="can't be made in a process of its own"):
        vector_of(Unmakeable, 2, vector="async")


def test_the_time_of_the_workers_begins_when_the_main_process_has_made_its_own(monkeypatch):
    """A maker that is slow everywhere has the whole of its time in each process."""
    main, told = os.getpid(), []

    class Timer:
        def __init__(self, seconds, late):
            told.append(seconds)

        def start(self):
            told.append("begun")

        def cancel(self):
            told.append("over")

    def make():
        if os.getpid() == main:
            told.append("made here")
        return Faulty()

    monkeypatch.setattr(workers_of, "threading", SimpleNamespace(Timer=Timer))
    vector_of(make, 2, vector="async", env_timeout_seconds=20).close()
    assert told == [20, "made here", "begun", "over"]

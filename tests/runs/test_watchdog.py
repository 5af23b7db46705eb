"""A stalled run says so once, with what it is waiting for."""

from __future__ import annotations

import importlib
import threading
import time
from functools import reduce

import gymnasium
import pytest
from gymnasium import spaces

import rl_lab
from rl_lab.runs import watchdog
from rl_lab.runs.progress import NullProgress
from rl_lab.runs.run import Run
from rl_lab.runs.watchdog import WAITS, Watchdog, watch_over
from runs import QUICK, learn


class Still:
    pulse = (7, 0)


@pytest.fixture
def now():
    return [100.0]


def dog_of(run, told, now):
    return Watchdog(run, told.append, 60.0, threading.get_ident(), lambda: now[0])


def test_one_line_for_each_stall(now):
    run, told = Still(), []
    dog = dog_of(run, told, now)
    for seconds in (0, 59, 60, 61, 200):
        now[0] = 100.0 + seconds
        dog.look()
    assert len(told) == 1
    assert told[0].startswith("stalled: nothing has happened for 60 s at environment step 7")
    run.pulse = (8, 0)
    now[0] += 1000
    dog.look()
    now[0] += 61
    dog.look()
    assert [line.split(" at ")[1].split(",")[0] for line in told] == [
        "environment step 7",
        "environment step 8",
    ]


def test_steps_and_other_signs_of_life_keep_it_silent(now):
    run, told = Still(), []
    dog = dog_of(run, told, now)
    for count in range(5):
        run.pulse = (7, count)
        now[0] += 59
        dog.look()
    assert told == []


def test_every_step_of_training_and_of_an_evaluation_is_a_sign_of_life(tmp_path, monkeypatch):
    pulses = []

    def noting(method):
        def noted(run, *arguments):
            answer = method(run, *arguments)
            pulses.append(run.pulse)
            return answer

        return noted

    monkeypatch.setattr(Run, "due", noting(Run.due))
    monkeypatch.setattr(Run, "_asked_to_stop", noting(Run._asked_to_stop))
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20, eval_every_steps=10)
    assert {step for step, _ in pulses} == set(range(1, 21))
    assert len(pulses) == len(set(pulses)) > 22


@pytest.mark.parametrize("place", WAITS, ids=".".join)
def test_every_place_that_is_looked_for_exists(place):
    module, name = place
    function = reduce(getattr, name.split("."), importlib.import_module(module))
    assert function.__qualname__ == name


def test_none_watches_nothing():
    before = set(threading.enumerate())
    with watch_over(Still(), pytest.fail, None):
        assert set(threading.enumerate()) <= before


HERE = "(test_watchdog.py:"


class Sleepy(gymnasium.Env):
    """Its third step, or its third evaluation step, goes on until somebody has told of it, and a bit longer."""

    observation_space = spaces.Discrete(2)
    action_space = spaces.Discrete(2)
    made = 0
    sleeps_in = -1  # the number of the environment that sleeps
    told = ()  # the lines that there are so far

    def __init__(self):
        self.number, self.steps = Sleepy.made, 0
        Sleepy.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps == 3 and self.number == Sleepy.sleeps_in:
            until = time.monotonic() + 60
            while not any(HERE in line for line in Sleepy.told) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.5)
        return 0, 0.0, False, self.steps % 4 == 0, {}


class Notes(NullProgress):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture
def sleepy():
    gymnasium.register("Sleepy-v0", Sleepy, max_episode_steps=4)
    yield Sleepy
    del gymnasium.registry["Sleepy-v0"]


@pytest.mark.parametrize("awaited", ["an environment step", "an evaluation"])
def test_a_run_whose_environment_hangs_says_where(sleepy, tmp_path, monkeypatch, awaited):
    shown = Notes()
    monkeypatch.setattr(sleepy, "told", shown.lines)
    made = watchdog.Watchdog

    def start(
        *args,
    ):  # whatever was made before only checked the environment; the run makes that of training first
        sleepy.sleeps_in = sleepy.made + (awaited == "an evaluation")
        return made(*args)

    monkeypatch.setattr(watchdog, "Watchdog", start)
    rl_lab.learn(
        "random", "Sleepy-v0", run_dir=tmp_path, total_steps=8, stall_seconds=1.0, progress=lambda total, at: shown,
        **QUICK | {"eval_envs": 1},
    )  # fmt: skip
    stalls = [line for line in shown.lines if HERE in line]  # a file or an import may take long, too
    assert len(stalls) == 1
    assert stalls[0].startswith("stalled")
    assert f"waiting for {awaited} {HERE}" in stalls[0]

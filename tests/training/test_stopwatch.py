"""Timed parts do what the parts do, and their time is told by name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rl_lab.training import stopwatch
from rl_lab.training.stopwatch import Stopwatch, TimedAgent, TimedPolicy, TimedVector


@pytest.fixture
def watch(monkeypatch):
    """A stopwatch on whose clock every call takes a second."""
    monkeypatch.setattr(stopwatch, "perf_counter", itertools.count().__next__)
    return Stopwatch()


class Part:
    """Returns what it was called with."""

    num_envs = 3

    def act(self, *args):
        return "acted", args

    def observe(self, step):
        self.step = step

    def update(self):
        return {"loss": 1.0}

    def step(self, action):
        return "stepped", action

    def reset(self, *, seed, options):
        return "reset", seed, options


def test_calls_pass_through(watch):
    part, is_first = Part(), np.ones(3, bool)
    assert TimedPolicy(part, watch).act("obs", (), is_first, None) == ("acted", ("obs", (), is_first, None))
    agent = TimedAgent(part, watch)
    agent.observe(part)
    assert part.step is part
    assert agent.update() == {"loss": 1.0}
    envs = TimedVector(Part(), watch)
    assert envs.num_envs == 3
    assert envs.step("action") == ("stepped", "action")
    assert envs.reset(seed=[1], options={"a": 1}) == ("reset", [1], {"a": 1})


def test_seconds_are_added_up_by_name_until_a_row_takes_them(watch):
    part = Part()
    policy, agent, envs = TimedPolicy(part, watch), TimedAgent(part, watch), TimedVector(part, watch)
    for _ in range(2):
        policy.act(0, (), 0)
        envs.step(0)
        agent.update()
    agent.observe(0)
    assert watch.take() == {
        "act_seconds": 2, "step_seconds": 2, "update_seconds": 2, "store_seconds": 1,
    }  # fmt: skip
    assert watch.take() == {}  # what wasn't called is no column
    envs.reset(seed=[0])
    assert watch.take() == {"reset_seconds": 1}

"""Where a run's time goes, on a clock that goes on only inside the parts: the rows tell it to the second."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest

from counting import Counting
from rl_lab.agents.random import RandomAgent, RandomPolicy
from rl_lab.environments.episodes import EpisodeTracker
from rl_lab.runs import run as running
from rl_lab.runs.clock import Clock
from rl_lab.runs.rows import read_rows
from rl_lab.training import session, stopwatch
from runs import learn

SECONDS = {"step": 1.0, "store": 2.0, "update": 4.0, "record": 8.0, "act": 16.0, "reset": 64.0}  # of a call


class Seconds:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of a random run on test/Timed-v0, whose episodes have five steps; only calls of its parts take time."""
    seconds = Seconds()

    def taking(owner: Any, name: str, cost: float) -> None:
        real = getattr(owner, name)

        def timed(*args, **asked):
            seconds.now += cost
            return real(*args, **asked)

        monkeypatch.setattr(owner, name, timed)

    class Timed(Counting):
        def step(self, action):
            seconds.now += SECONDS["step"]
            return super().step(0)

        def reset(self, *, seed=None, options=None):
            seconds.now += SECONDS["reset"]
            return super().reset(seed=seed, options=options)

    taking(RandomAgent, "observe", SECONDS["store"])
    taking(RandomAgent, "update", SECONDS["update"])
    taking(RandomPolicy, "act", SECONDS["act"])
    taking(EpisodeTracker, "add", SECONDS["record"])
    for module in (session, stopwatch):
        monkeypatch.setattr(module, "perf_counter", seconds)
    monkeypatch.setattr(running, "Clock", lambda: Clock(seconds, seconds))
    gymnasium.register("test/Timed-v0", Timed, max_episode_steps=5)
    yield seconds
    gymnasium.registry.pop("test/Timed-v0")


def test_rows_tell_the_seconds_of_every_part_which_add_up_to_those_of_training(clock, tmp_path):
    """Each row covers one episode: five calls of every part, and one reset. Evaluations take time, but don't count."""
    fields = {"total_steps": 15, "log_every_steps": 5, "eval_every_steps": 5, "eval_max_steps": 3}
    summary = learn(tmp_path, "random", "test/Timed-v0", **fields).summary
    parts = {f"{name}_seconds": cost * (1 if name == "reset" else 5) for name, cost in SECONDS.items()}
    rows = [row for row in read_rows(tmp_path) if "train_seconds" in row]
    assert [row["env_steps"] for row in rows] == [5, 10, 15]
    assert [{name: row[name] for name in parts} for row in rows] == [parts] * 3
    assert [row["train_seconds"] for row in rows] == [sum(parts.values()) * k for k in (1, 2, 3)]
    assert summary is not None
    assert summary["train_seconds"] == rows[-1]["train_seconds"] < summary["wall_seconds"]
    assert summary["env_steps_per_second"] == 15 / summary["train_seconds"]


@pytest.mark.parametrize(("env_id", "told"), [("test/Endless-v0", True), ("test/Timed-v0", False)])
def test_a_run_in_which_no_episode_ended_says_so(clock, tmp_path, capsys, env_id, told):
    learn(tmp_path, "random", env_id, total_steps=15, eval_max_steps=3, progress=True)
    assert ("no training episode ended within 15 steps" in capsys.readouterr().err.splitlines()) == told

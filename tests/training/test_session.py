"""A session between its start and its next stop: what it asks of the agent, and what it pushes into the run."""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from counting import Collector, Scripted, sometimes_end
from rl_lab.environments.make import make_envs
from rl_lab.problem import Problem
from rl_lab.seeding import Streams
from rl_lab.training.experience import experience
from rl_lab.training.session import Session
from rl_lab.types import UsageError


class Summing(Collector):
    """Learns the sum of all rewards at every second vector step; its metric is the number of updates."""

    def __init__(self, collect_env_steps: int = 1):
        super().__init__()
        self.collect_env_steps, self.gradient_steps = collect_env_steps, 0
        self.total, self.pending = np.zeros(1), 0.0

    def policy(self, *, explore):
        return Scripted(sometimes_end)

    def observe(self, step):
        super().observe(step)
        self.pending += step.reward.sum()

    def update(self):
        if len(self.steps) % 2:
            return None
        self.total += self.pending
        self.pending, self.gradient_steps = 0.0, self.gradient_steps + 1
        return {"updates": float(self.gradient_steps)}

    def diagnostics(self):
        return {"total": float(self.total[0])}

    def state_dict(self):
        return {"weights": {"total": self.total}, "pending": self.pending, "steps": len(self.steps)}

    def load_state_dict(self, state):
        self.total[:] = state["weights"]["total"]
        self.pending = state.get("pending", 0.0)
        self.steps = [None] * state.get("steps", 0)


class Told:
    """Stands for the run: a row and a checkpoint are due at every `period` steps."""

    def __init__(self, period: int = 4, *, stop_at: int | None = None, restored=None, over: bool = False):
        self.period, self.stop_at, self.restored, self.over = period, stop_at, restored, over
        self.stopped, self.stop_requested, self.total_steps, self.saved = False, False, 0, None
        self.episodes, self.rows, self.finished = [], [], []
        self.is_compiling = False

    @contextmanager
    def compiling(self):
        self.is_compiling = True
        yield
        self.is_compiling = False

    def episode(self, episode):
        self.episodes.append(episode)

    def due(self, env_steps):
        return env_steps % self.period == 0

    row_due = due

    def row(self, env_steps, values):
        self.rows.append((env_steps, values))

    def moment(self, env_steps, policy, members):
        self.saved = deepcopy(members())
        self.stopped = self.stop_requested or env_steps == self.stop_at
        return self.stopped

    def catch_up(self, env_steps, policy, members):
        return self.over

    def finish(self, env_steps, policy, members, gradient_steps, results):
        self.finished.append((env_steps, gradient_steps, dict(results)))
        self.saved = deepcopy(members)


def session_of(run: Told, agent=None, *, total_steps: int = 20, num_envs: int = 1, **fields) -> Session:
    problem = Problem(
        "test/Counting-v0", {}, num_envs, total_steps, 3, "cpu", lambda n: make_envs("test/Counting-v0", n)
    )
    problem = replace(problem, **fields)
    agent = Summing() if agent is None else agent
    return Session(None, lambda config, problem, streams: agent, problem, run, experience(problem))


def played(run: Told) -> list[tuple]:
    return [(e.env_steps, e.env_index, e.episode, e.seed, e.return_, e.length) for e in run.episodes]


@pytest.mark.parametrize(("multiple", "budget"), [(1, 10), (4, 12), (10, 10), (16, 16)])
def test_the_budget_is_rounded_up_to_what_the_agent_collects(multiple, budget):
    run = Told()
    session_of(run, Summing(multiple), total_steps=10).go()
    assert run.total_steps == budget
    assert run.finished == [(budget, budget // 2, {})]


@pytest.mark.parametrize(("multiple", "num_envs", "budget"), [(1, 4, 12), (4, 3, 12), (5, 4, 12), (1, 1, 10)])
def test_the_budget_ends_with_a_step_of_all_environments(multiple, num_envs, budget):
    run = Told()
    session_of(run, Summing(multiple), total_steps=10, num_envs=num_envs).go()
    assert run.total_steps == budget == run.finished[0][0]


def test_rows_hold_the_means_since_the_last_one_and_where_time_went():
    """An update falls on every second step, so that rows at 4 and 8 steps hold updates 1 and 2, and 3 and 4."""
    run = Told(period=4)
    session_of(run, total_steps=8).go()
    assert [env_steps for env_steps, _ in run.rows] == [4, 8]
    assert [values["updates"] for _, values in run.rows] == [1.5, 3.5]
    assert [values["gradient_steps"] for _, values in run.rows] == [2, 4]
    timed = {name for name in run.rows[0][1] if name.endswith("_seconds")}
    assert timed >= {"act_seconds", "store_seconds", "update_seconds", "step_seconds", "record_seconds"}


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_run_gets_every_episode_that_ended(num_envs):
    run, agent = Told(), Summing()
    session_of(run, agent, total_steps=60, num_envs=num_envs).go()
    ended = np.stack([step.terminated | step.truncated for step in agent.steps])
    assert len(run.episodes) == ended.sum() > 5
    for i in range(num_envs):
        mine = [e for e in run.episodes if e.env_index == i]
        assert [e.episode for e in mine] == list(range(len(mine)))
        assert sum(e.length for e in mine) == 1 + np.flatnonzero(ended[:, i])[-1]


def test_results_of_the_agent_end_in_the_summary():
    class Telling(Summing):
        def results(self):
            return {"answer": 42}

    run = Told()
    session_of(run, Telling(), total_steps=4).go()
    assert run.finished == [(4, 2, {"answer": 42})]


class TestStops:
    def test_a_run_that_goes_on_later_is_not_finished(self):
        run = Told(stop_at=8)
        session_of(run).go()
        assert run.finished == []
        assert run.saved["cursor"]["env_steps"] == 8

    def test_a_run_that_is_over_already_takes_no_step(self):
        run, agent = Told(over=True), Summing()
        session_of(run, agent).go()
        assert agent.steps == []
        assert run.finished == [(0, 0, {})]

    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_a_session_goes_on_where_another_one_was_left(self, num_envs):
        whole, first = Told(), Told(stop_at=8)
        session_of(whole, total_steps=40, num_envs=num_envs).go()
        session_of(first, total_steps=40, num_envs=num_envs).go()
        second = Told(restored=first.saved)
        session_of(second, total_steps=40, num_envs=num_envs).go()
        assert played(first) + played(second) == played(whole)
        assert second.saved["weights"]["total"] == whole.saved["weights"]["total"] > 0.0
        assert [env_steps for env_steps, _ in first.rows + second.rows] == [e for e, _ in whole.rows]
        assert second.rows[-1][1]["total"] == whole.rows[-1][1]["total"]

    def test_metrics_since_the_last_row_are_kept(self):
        agent, run = Summing(), Told()
        session = session_of(run, agent)
        session.meter.add({"updates": 5.0})
        other = session_of(Told(restored=deepcopy(session.members())))
        assert other.meter.take() == {"updates": 5.0}


class TestWeights:
    def test_a_fresh_session_begins_with_those_that_it_is_given(self):
        agent = Summing()
        session_of(Told(), agent, initial_weights={"total": np.array([7.0])})
        assert agent.total.tolist() == [7.0]

    def test_those_that_do_not_fit_are_refused(self):
        with pytest.raises(UsageError, match=r"init_from: weights 'total' have shape \(2,\) there"):
            session_of(Told(), initial_weights={"total": np.zeros(2)})

    def test_a_restored_session_keeps_its_own(self):
        run = Told(stop_at=8)
        session_of(run).go()
        agent = Summing()
        session_of(Told(restored=run.saved), agent, initial_weights={"total": np.array([7.0])})
        assert agent.total == run.saved["weights"]["total"]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_that_are_not_finite_are_never_saved(self, value):
        session = session_of(Told(), agent := Summing())
        agent.total[0] = value
        with pytest.raises(FloatingPointError, match="weights 'total' are not finite at env step 0"):
            session.members()


class Compiling(Summing):
    """Has something to compile, which draws random numbers; a signal may come meanwhile."""

    compiles = True

    def __init__(self, run: Told, streams: Streams | None = None, *, signalled: bool = False):
        super().__init__()
        self.run, self.streams, self.signalled, self.examples = run, streams, signalled, []

    def compile_updates(self, example, should_stop):
        assert all(step is None for step in self.steps)  # as many as a checkpoint counts
        assert not should_stop()
        assert self.run.is_compiling  # its seconds are told apart
        self.examples.append(example)
        if self.streams is not None:
            self.drawn = self.streams["explore"].random(3).tolist()
        self.run.stop_requested = self.signalled
        assert should_stop() == self.signalled


class TestCompiling:
    def test_comes_before_the_first_step_with_an_example_of_one(self):
        run = Told()
        session_of(run, agent := Compiling(run), num_envs=2).go()
        (example,) = agent.examples
        assert example.obs.tolist() == agent.steps[0].obs.tolist() == example.next_obs.tolist()
        for field in ("action", "reward", "terminated", "truncated", "is_first"):
            ours, real = getattr(example, field), getattr(agent.steps[0], field)
            assert (ours.shape, ours.dtype) == (real.shape, real.dtype), field
        assert run.rows[0][1]["compile_seconds"] > 0
        assert not run.is_compiling
        assert "compile_seconds" not in run.rows[1][1]

    def test_draws_nothing_from_the_streams_of_the_run(self):
        run = Told()
        session = session_of(run, agent := Compiling(run))
        agent.streams = session.streams
        session.streams["explore"].random(5)
        session.go()
        assert session.streams["explore"].random(3).tolist() == agent.drawn

    @pytest.mark.parametrize("restored", [False, True])
    def test_a_signal_meanwhile_saves_before_the_next_step(self, restored):
        begun = Told(stop_at=8)
        session_of(begun).go()
        run = Told(restored=begun.saved if restored else None)
        session_of(run, agent := Compiling(run, signalled=True)).go()
        assert run.saved["cursor"]["env_steps"] == (8 if restored else 0)
        assert (len(agent.examples), run.finished, run.rows) == (1, [], [])
        assert run.saved["agent"]["steps"] == (8 if restored else 0)

    def test_is_left_out_where_the_agent_has_nothing_to_compile(self):
        run = Told()
        session = session_of(run, agent := Compiling(run))
        agent.compiles = False
        session.go()
        assert agent.examples == []
        assert "compile_seconds" not in run.rows[0][1]

    def test_is_left_out_where_no_step_is_to_come(self):
        whole = Told(stop_at=20)
        session_of(whole).go()
        run = Told(restored=whole.saved)
        session_of(run, agent := Compiling(run)).go()
        assert agent.examples == []

"""The benchmark of tabular learning: both sides do their work, per million steps, and the rows hold the bars."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.benchmarks import tabular as benchmark
from rl_lab.benchmarks.tabular import (
    bare_seconds,
    frozen_lake,
    one_sequence_seconds,
    pymdptoolbox_seconds,
    q_learning,
    seeds_work,
    sequence_work,
    stepped_seconds,
    tabular,
)
from rl_lab.mdp.simulate import simulate


@pytest.fixture(autouse=True)
def _counted(monkeypatch):
    """Every piece of work takes half a second, so that seconds of a million steps can be checked."""

    def half_a_second(work):
        work()
        return 0.5

    monkeypatch.setattr(benchmark, "timed", half_a_second)


@pytest.mark.long
def test_seconds_are_those_of_a_million_steps():
    model = frozen_lake()
    assert (model.num_states, model.num_actions) == (64, 4)
    assert one_sequence_seconds(model, 2_000) == pytest.approx(0.5 * 500)
    assert pymdptoolbox_seconds(model, 10_000) == pytest.approx(0.5 * 100)
    assert bare_seconds(8, 2_000) == pytest.approx(0.5 * 500)


def test_what_is_timed_learns():
    found = simulate(frozen_lake(), q_learning(300_000), range(3), 300_000, time_limit=benchmark.TIME_LIMIT)
    assert np.median(found.greedy_return[:, -1]) > 0.35
    assert found.optimal_return == pytest.approx(0.4146, abs=1e-4)


def test_the_rows_hold_the_bars():
    work = sequence_work(2_000, 10_000)
    work.ours()
    assert work.more() == {
        "ratio_at_least": 150.0,
        "steps_per_second": pytest.approx(1e6 / 250),
        "steps_per_second_at_least": 20e6,
    }
    assert work.peer == "pymdptoolbox QLearning"
    several = seeds_work(3, 500)
    assert (several.ours(), several.theirs()) == (0.5, 0.5)


def test_runs_through_the_environment_are_recorded_and_timed():
    assert stepped_seconds(2, 500) > 0
    works = tabular(2_000, 10_000, 3, 500, 300)
    assert [work.more().get("ratio_at_least") for work in works[2:]] == [0.3, 0.3]
    assert [work.work.split("N = ")[1] for work in works[2:]] == ["1", "8"]

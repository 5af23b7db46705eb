"""The benchmark of many environments: both sides do the same number of steps, and seconds are those of a million."""

from __future__ import annotations

import pytest

from rl_lab.benchmarks import training
from rl_lab.benchmarks import vectors as benchmark
from rl_lab.benchmarks.vectors import acting_and_storing, learning, recorded, stepped, vectors


@pytest.fixture
def half_a_second(monkeypatch):
    """Every piece of work takes half a second."""

    def timed(work):
        work()
        return 0.5

    monkeypatch.setattr(benchmark, "timed", timed)


@pytest.fixture
def summaries(monkeypatch):
    """The summaries of the lab's runs."""
    found, learn = [], training.learn

    def learn_and_tell(*args, **fields):
        result = learn(*args, **fields)
        found.append(result.summary)
        return result

    monkeypatch.setattr(training, "learn", learn_and_tell)
    return found


@pytest.mark.parametrize("env_id", benchmark.STEPPED)
@pytest.mark.parametrize("num_envs", [2, 9])
def test_playing_counts_whole_vector_steps(env_id, num_envs, half_a_second):
    work = stepped(env_id, num_envs, 100)
    taken = 100 // num_envs * num_envs
    assert work.ours() == work.theirs() == pytest.approx(0.5e6 / taken)
    assert work.peer == "gymnasium SyncVectorEnv"


def test_a_run_is_recorded_beside_the_environments_alone(half_a_second, summaries):
    work = recorded(8, 800)
    assert work.ours() == pytest.approx(summaries[0]["train_seconds"] * 1250)
    assert (summaries[0]["agent"], summaries[0]["env_steps"]) == ("random", 800)
    assert work.theirs() == pytest.approx(0.5e6 / 800)


@pytest.mark.long  # imports SB3 and torch, and trains with both
def test_both_sides_learn_as_often_or_not_at_all(summaries):
    for work, gradient_steps in ((acting_and_storing(8, 640), 0), (learning(8, 512), 2 * 4)):
        assert work.ours() > 0
        assert work.theirs() > 0
        assert summaries[-1]["gradient_steps"] == gradient_steps


def test_there_are_rows_for_each_number_of_environments():
    works = [work.work for work in vectors(numbers=(8, 64))]
    assert sum("N = 64" in work for work in works) == sum("N = 8" in work for work in works) == 5

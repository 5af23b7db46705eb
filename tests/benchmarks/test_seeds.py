"""Several seeds beside one: what is timed, and what the rows tell."""

from __future__ import annotations

import pytest

from rl_lab.benchmarks import seeds
from rl_lab.training.launch import learn


def test_a_seed_among_several_does_the_work_of_one_alone(monkeypatch):
    taken, seconds = [], []

    def learn_and_tell(*args, **fields):
        result = learn(*args, **fields)
        taken.append([one.summary["gradient_steps"] for one in result])
        seconds.append(sum(one.summary["train_seconds"] for one in result))
        return result

    monkeypatch.setattr(seeds, "learn", learn_and_tell)
    monkeypatch.setattr(seeds, "DQN", {"hidden": (8,), "batch_size": 4, "learning_starts_env_steps": 16})
    eager, compiled, ppo = seeds.batched(seeds=2, steps=64)
    assert eager.ours() == seconds[0] / 2 > 0
    assert eager.theirs() > 0
    assert taken == [[12, 12]]
    assert eager.more()["times_one_seed_at_most"] == 4.0
    assert "compile yes" in compiled.work
    assert "times_one_seed_at_most" not in ppo.work


def test_the_rows_tell_how_much_several_take_measured_in_one(monkeypatch):
    monkeypatch.setattr(seeds, "together_seconds", lambda agent, number, **fields: 6.0)
    monkeypatch.setattr(seeds, "lab_seconds", lambda agent, **fields: 2.0)
    work = seeds.batched(seeds=8, steps=64)[0]
    assert (work.ours(), work.theirs()) == (6 / 8, 2.0)
    assert work.more() == {"times_one_seed": pytest.approx(3.0), "times_one_seed_at_most": 4.0}

"""A run writes its replay ahead of its checkpoints, and nothing that it learns or records shows it."""

from __future__ import annotations

import threading

import pytest

import rl_lab
from eager import LIMIT, write_ahead_early
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints
from runs import SMALL_DQN, differences, learn

PRIORITISED = SMALL_DQN | {"prioritised": True, "checkpoint_every_steps": 170}
ROOMY = SMALL_DQN | {"replay_capacity": 1_000, "checkpoint_every_steps": 200}


@pytest.fixture
def written(monkeypatch):
    """The bytes of rows that each checkpoint wrote itself, and those that it found."""
    write_ahead_early(monkeypatch)
    found: dict[str, list[int]] = {"saves": [], "ahead": []}
    save = Checkpoints.save

    def rows_of(store):
        return sum(path.stat().st_size for path in store.folder.rglob("*.npy"))

    def counted(store, env_steps, members, info=None):
        store.close()  # what is being written ahead
        before = rows_of(store)
        found["ahead"].append(before)
        path = save(store, env_steps, members, info)
        found["saves"].append(rows_of(store) - before)
        return path

    monkeypatch.setattr(Checkpoints, "save", counted)
    return found


@pytest.mark.parametrize("num_envs", [1, 4])
def test_nothing_else_differs_nor_after_a_stop(tmp_path, monkeypatch, num_envs):
    run = {"total_steps": 400, "num_envs": num_envs, "seed": 5, "eval_max_steps": 50} | PRIORITISED
    learn(tmp_path / "plain", "dqn", "CartPole-v1", **run)
    write_ahead_early(monkeypatch)
    learn(tmp_path / "cut", "dqn", "CartPole-v1", stop_at=260, **run)
    rl_lab.resume(tmp_path / "cut")
    assert differences(fingerprint(tmp_path / "plain"), fingerprint(tmp_path / "cut")) == set()
    segments = [len(list((tmp_path / name).rglob("*.npy"))) for name in ("plain", "cut")]
    assert segments[0] < segments[1]  # it was written in more and smaller parts


def test_a_checkpoint_writes_a_bounded_part_also_after_a_resume(tmp_path, written):
    learn(tmp_path, "dqn", "CartPole-v1", stop_at=330, total_steps=500, **ROOMY)
    rl_lab.resume(tmp_path)
    headers = (
        128 * 6
    )  # of .npy files: four columns, the frames, and the frames' other part at the array's end
    assert len(written["saves"]) >= 4  # at 200, 330, 400 and 500, and where an evaluation was the best
    assert max(written["saves"]) <= LIMIT + headers
    assert written["ahead"][-1] > 5 * LIMIT


def test_it_is_done_when_it_is_worth_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Checkpoints, "write_ahead", lambda store, env_steps, members: asked.append(env_steps) or 100
    )
    rarely = {"eval_every_steps": 10_000, "checkpoint_every_steps": 10_000}
    learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=600, **rarely)
    assert asked == [256, 356, 456, 556]


def test_a_run_that_fails_leaves_no_thread(tmp_path, monkeypatch):
    write_ahead_early(monkeypatch)
    before = set(threading.enumerate())
    with pytest.raises(FloatingPointError):
        learn(tmp_path, "dqn", "CartPole-v1", total_steps=400, learning_rate=1e38, **PRIORITISED)
    assert set(threading.enumerate()) <= before
    assert not list(tmp_path.rglob("*.tmp"))

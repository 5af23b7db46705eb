"""A run that is really training is followed: its curves grow, newer checkpoints act, and little is taken from it."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from rl_lab.runs.directory import SUMMARY
from rl_lab.watching import desk as desk_module
from rl_lab.watching import following
from rl_lab.watching.courtesy import TRAINING_FRAMES
from rl_lab.watching.guard import Guard
from rl_lab.watching.opening import live_page
from rl_lab.watching.session import FRAMES_PER_SECOND
from rl_lab.watching.sources import watched

PATIENCE = 120  # seconds, since a machine may be busy
WORDS = [
    "train",
    "--agent",
    "q-learning",
    "--env-id",
    "FrozenLake-v1",
    "--total-steps",
    "100000000",
    "--seed",
    "5",
]
QUIETLY = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "0"]
OFTEN = ["--checkpoint-every-steps", "500", "--log-every-steps", "100"]


@pytest.fixture
def training(tmp_path):
    """A process that trains a run, which has saved something, and its folder."""
    folder = tmp_path / "run"
    words = [sys.executable, "-m", "rl_lab", *WORDS, *QUIETLY, *OFTEN, "--run-dir", str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: any((folder / "checkpoints").glob("*.json")))
        yield process, folder
    finally:
        process.kill()
        process.wait()


def until(holds) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
def test_a_run_that_trains_is_followed_and_let_go_first(training, monkeypatch):
    process, folder = training
    gave_way, told = [], []
    monkeypatch.setattr(desk_module, "give_way", lambda: gave_way.append(1) or True)
    page = live_page([watched(folder)], Guard(1))
    session, desk = page.player.session, page.player._idle.__self__
    (run,) = desk._following.values()
    run._seconds = run._load_seconds = 0.0
    assert gave_way == [1]
    assert session.frames_per_second == TRAINING_FRAMES
    assert page.note == page.broadcast.notices["gentle"]["text"]
    assert "nice 19" in page.note
    desk.tell = told.append

    def of(kind):
        return [notice for notice in told if notice["type"].startswith(kind)]

    def looks() -> None:
        desk.idle(session)

    until(lambda: looks() or (len(of("curves")) >= 2 and len(of("checkpoint")) >= 1))
    assert of("curves")[-1]["env_steps"] > of("curves")[0]["env_steps"]
    first = session.agents[0].track.lane.policy
    newest = session.agents[0].fresh[0]
    assert newest is not first
    session.next_episode()
    assert session.agents[0].track.lane.policy is newest
    assert session.view().lanes[0].figures["note"] == f"the checkpoint at step {run.checkpoint}"
    assert of("map")  # of the newest policy
    assert gave_way == [1]  # once is enough
    process.terminate()
    assert process.wait(timeout=PATIENCE) == 75
    assert not (folder / SUMMARY).exists()
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.0)
    desk.idle(session)
    assert session.frames_per_second == FRAMES_PER_SECOND
    assert of("gentle")[-1]["text"] == ""
    session.close()


def test_a_run_counts_as_training_while_its_rows_grow_and_it_has_not_ended(tmp_path, monkeypatch):
    assert not following.is_training(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert following.is_training(tmp_path)
    now = time.time()
    monkeypatch.setattr(following, "time", SimpleNamespace(time=lambda: now + 601))
    assert not following.is_training(tmp_path)
    monkeypatch.undo()
    (tmp_path / SUMMARY).write_text("{}")
    assert not following.is_training(tmp_path)


def test_policies_that_come_soon_after_one_another_are_not_all_loaded(tmp_path):
    loaded = []
    (tmp_path / "checkpoints").mkdir()
    run = following.Following(tmp_path, lambda: (loaded.append(1), 10), load_seconds=1000.0)
    for number in (10, 20, 30):
        (tmp_path / "checkpoints" / f"{number:012d}-a.json").write_text("{}")
        run.look()
    assert (len(loaded), run.checkpoint) == (1, 10)


def test_every_thread_gives_way():
    """In a process of its own, since priority can't be taken back."""
    script = """
import os, threading
from rl_lab.watching.courtesy import give_way
stop = threading.Event()
other = threading.Thread(target=stop.wait)
other.start()
assert give_way()
print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, other.native_id))
stop.set()
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["19", "19"]

"""Signals and kills of the real script: it saves or has saved, and a resume goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import dawdling
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.checkpoint import Checkpoints
from runs import differences, learn

ROOT = Path(__file__).resolve().parents[2]


SUPPORT = str(ROOT / "tests" / "support")


TRAIN = str(ROOT / "scripts" / "train.py")


BUDGET = [
    "--total-steps",
    "40000",
    "--log-every-steps",
    "500",
    "--checkpoint-every-steps",
    "8000",
    "--seed",
    "3",
    "--wrappers",
    "dawdling:Dawdling",
]


COMMAND = [sys.executable, TRAIN, "--agent", "q-learning", "--env-id", "FrozenLake-v1", *BUDGET]


CALM = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2", "--eval-envs", "2"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    learn(
        folder, "q-learning", "FrozenLake-v1", total_steps=40_000, log_every_steps=500,
        checkpoint_every_steps=8000, seed=3, wrappers=("dawdling:Dawdling",),
    )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def slow(tmp_path, monkeypatch):
    """Keeps runs of the script from coming to their ends, from a step on, until the file that it returns is gone."""
    folder = tmp_path / "dawdling"
    folder.mkdir()
    monkeypatch.setenv(dawdling.FOLDER, str(folder))
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
    return lambda step: dawdling.slow_from(folder, step)


def start_script(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *CALM, "--run-dir", str(folder)], stderr=subprocess.PIPE, text=True)


def interrupt(process: subprocess.Popen, number: int, when: Callable[[], bool]) -> None:
    """Send a signal as soon as something holds."""
    until = time.monotonic() + 120
    try:
        while not when():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(number)
        process.wait(60)
    finally:
        process.kill()  # unless it has ended


def resume_script(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, TRAIN, "--resume", "--run-dir", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def has_rows(folder: Path, count: int) -> bool:
    return len(read_rows(folder)) >= count


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_saves_and_stops_and_the_run_goes_on_exactly(self, long_run, tmp_path, slow, number):
        run, waiting = tmp_path / "run", slow(1600)
        process = start_script(run)
        interrupt(process, number, lambda: has_rows(run, 3))
        assert process.returncode == STOPPED == 75
        assert not (run / "summary.json").exists()
        assert Checkpoints(run / "checkpoints").load()[0] < 40_000
        waiting.unlink()
        resume_script(run)
        assert differences(fingerprint(long_run), fingerprint(run)) == set()

    def test_a_kill_between_checkpoints_goes_on_from_the_last(self, long_run, tmp_path, slow):
        run, waiting = tmp_path / "run", slow(9600)

        def beyond_a_checkpoint() -> bool:
            found = Checkpoints(run / "checkpoints").manifests()
            rows = read_rows(run)
            return bool(found) and rows[-1]["env_steps"] > int(found[-1].name.split("-")[0]) + 1000

        process = start_script(run)
        interrupt(process, signal.SIGKILL, beyond_a_checkpoint)
        assert process.returncode == -signal.SIGKILL
        before = read_rows(run)[-1]["env_steps"]
        assert Checkpoints(run / "checkpoints").load()[0] < before < 40_000
        waiting.unlink()
        resume_script(run)
        assert differences(fingerprint(long_run), fingerprint(run)) == set()

    def test_a_kill_before_the_first_checkpoint_starts_again_without_double_rows(
        self, long_run, tmp_path, slow
    ):
        run, waiting = tmp_path / "run", slow(1600)
        process = start_script(run)
        interrupt(process, signal.SIGKILL, lambda: has_rows(run, 3))
        assert process.returncode == -signal.SIGKILL
        assert not list((run / "checkpoints").glob("*.json"))
        waiting.unlink()
        resume_script(run)
        assert differences(fingerprint(long_run), fingerprint(run)) == set()

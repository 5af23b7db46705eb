"""Signals and kills of the real script: it saves or has saved, and a resume goes on exactly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.checkpoint import Checkpoints
from runs import differences, learn

ROOT = Path(__file__).resolve().parents[2]


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
]


COMMAND = [sys.executable, TRAIN, "--agent", "q-learning", "--env-id", "FrozenLake-v1", *BUDGET]


CALM = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2", "--eval-envs", "2"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long") / "run"
    learn(
        folder, "q-learning", "FrozenLake-v1", total_steps=40_000, log_every_steps=500,
        checkpoint_every_steps=8000, seed=3,
    )  # fmt: skip
    return folder


def start_script(folder: Path) -> subprocess.Popen:
    return subprocess.Popen([*COMMAND, *CALM, "--run-dir", str(folder)], stderr=subprocess.PIPE, text=True)


def interrupt(process: subprocess.Popen, number: int, when: Callable[[], bool]) -> None:
    """Send a signal as soon as something holds."""
    until = time.monotonic() + 60
    while not when() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(number)


def resume_script(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, TRAIN, "--resume", "--run-dir", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def has_rows(folder: Path, count: int) -> bool:
    return len(read_rows(folder)) >= count


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_saves_and_stops_and_the_run_goes_on_exactly(self, long_run, tmp_path, number):
        process = start_script(tmp_path)
        interrupt(process, number, lambda: has_rows(tmp_path, 3))
        assert process.wait(10) == STOPPED == 75
        assert not (tmp_path / "summary.json").exists()
        assert Checkpoints(tmp_path / "checkpoints").load()[0] < 40_000
        resume_script(tmp_path)
        assert differences(fingerprint(long_run), fingerprint(tmp_path)) == set()

    def test_a_kill_between_checkpoints_goes_on_from_the_last(self, long_run, tmp_path):
        def beyond_a_checkpoint() -> bool:
            found = Checkpoints(tmp_path / "checkpoints").manifests()
            rows = read_rows(tmp_path)
            return bool(found) and rows[-1]["env_steps"] > int(found[-1].name.split("-")[0]) + 1000

        process = start_script(tmp_path)
        interrupt(process, signal.SIGKILL, beyond_a_checkpoint)
        assert process.wait(10) == -signal.SIGKILL
        before = read_rows(tmp_path)[-1]["env_steps"]
        assert Checkpoints(tmp_path / "checkpoints").load()[0] < before < 40_000
        resume_script(tmp_path)
        assert differences(fingerprint(long_run), fingerprint(tmp_path)) == set()

    def test_a_kill_before_the_first_checkpoint_starts_again_without_double_rows(self, long_run, tmp_path):
        process = start_script(tmp_path)
        interrupt(process, signal.SIGKILL, lambda: has_rows(tmp_path, 3))
        assert process.wait(10) == -signal.SIGKILL
        assert not list((tmp_path / "checkpoints").glob("*.json"))
        resume_script(tmp_path)
        assert differences(fingerprint(long_run), fingerprint(tmp_path)) == set()

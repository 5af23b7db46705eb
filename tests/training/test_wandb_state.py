"""How a run ended, as W&B shows it: stopped is not failed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import rl_lab
from commands import call
from rl_lab.cli.train import train
from rl_lab.runs.run import Run
from rl_lab.runs.signals import STOPPED
from runs import QUICK
from wandb_reader import OfflineRun, read_offline_runs

pytestmark = pytest.mark.usefixtures("nothing_of_wandb")

WORDS = "--agent q-learning --env-id FrozenLake-v1 --total-steps 300 --eval-episodes 2 --video-episodes 0 --no-pictures"


def at_first_row(monkeypatch, do) -> None:
    """Do something as soon as a run writes its first row."""
    original = Run.row

    def row(self, *given):
        original(self, *given)
        monkeypatch.setattr(Run, "row", original)
        do()

    monkeypatch.setattr(Run, "row", row)


def mirrored(folder: Path) -> OfflineRun:
    (run,) = read_offline_runs(folder)
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_marks_the_run_stopped_and_not_failed(tmp_path, monkeypatch, capsys, number):
    at_first_row(monkeypatch, lambda: os.kill(os.getpid(), number))
    code, _, _ = call(capsys, train, *WORDS.split(), "--wandb", "offline", "--run-dir", tmp_path / "run")
    assert code == STOPPED
    run = mirrored(tmp_path / "run")
    assert (run.summary["state"], run.exit_code) == ("stopped", 0)
    segment = json.loads((tmp_path / "run" / "wandb" / "segment-0.json").read_text())
    assert segment["state"] == "stopped"


def learn(folder: Path) -> None:
    fields = QUICK | {"wandb": "offline", "total_steps": 300}
    rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=str(folder), **fields)


def test_an_interrupt_without_signals_is_a_stop(tmp_path, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    at_first_row(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run")
    assert (mirrored(tmp_path / "run").summary["state"], mirrored(tmp_path / "run").exit_code) == (
        "stopped",
        0,
    )


def test_an_error_is_a_failure(tmp_path, monkeypatch):
    def fail():
        raise ArithmeticError("nan")

    at_first_row(monkeypatch, fail)
    with pytest.raises(ArithmeticError):
        learn(tmp_path / "run")
    assert (mirrored(tmp_path / "run").summary["state"], mirrored(tmp_path / "run").exit_code) == (
        "failed",
        1,
    )


def test_a_run_to_its_end_is_finished(tmp_path):
    learn(tmp_path / "run")
    assert (mirrored(tmp_path / "run").summary["state"], mirrored(tmp_path / "run").exit_code) == (
        "finished",
        0,
    )

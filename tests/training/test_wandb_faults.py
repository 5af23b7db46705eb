"""Six faults of W&B beside training: the same weights, exit code 0, one warning."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from commands import call
from mirrored import service_of, wait_for
from rl_lab.cli.train import train
from rl_lab.runs.tracking import Mirror
from rl_lab.training import running

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("nothing_of_wandb")]  # each starts processes of W&B

WORDS = "--agent q-learning --env-id FrozenLake-v1 --total-steps 300 --eval-episodes 2 --video-episodes 0 --no-pictures"


@pytest.fixture
def struck(monkeypatch):
    """Return a function that strikes the mirror as soon as training has started it."""

    def strike(blow) -> None:
        start = running.start_mirror

        def started(run_dir, mode):
            mirror = start(run_dir, mode)
            if isinstance(mirror, Mirror):
                blow(mirror.process.pid)
                monkeypatch.setattr(mirror, "close", partial(mirror.close, timeout_seconds=300.0))
            return mirror

        monkeypatch.setattr(running, "start_mirror", started)

    return strike


def kill_service(pid: int) -> None:
    wait_for(lambda: service_of(pid)).kill()


def fill_disk(pid: int) -> None:
    """The kernel refuses to let any file of the mirror and its service grow beyond 2 kB."""
    wait_for(lambda: psutil.Process(pid).name() != "pytest")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2_000, 2_000))


def kill_mirror(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def weights(folder: Path) -> str:
    return json.loads((folder / "summary.json").read_text())["weights_sha256"]


FAULTS = {
    "no key": ("online", {}, None, "No API key"),
    "refused port": ("online", {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:1"}, None, ""),
    "service killed": ("offline", {}, kill_service, "mirrored offline instead"),
    "full disk": ("offline", {}, fill_disk, ""),
    "unwritable folder": ("offline", {}, None, "could not start"),
    "SIGKILL": ("offline", {}, kill_mirror, "killed by signal 9"),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train([*WORDS.split(), "--wandb", "disabled", "--run-dir", str(folder)]) == 0
    return weights(folder)


@pytest.mark.parametrize(
    "fault", [pytest.param(f, marks=[pytest.mark.long] if f == "refused port" else []) for f in FAULTS]
)
def test_a_fault_of_wandb_changes_nothing(fault, undisturbed, tmp_path, monkeypatch, capsys, caplog, struck):
    mode, variables, blow, cause = FAULTS[fault]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if blow is not None:
        struck(blow)
    if fault == "unwritable folder":
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "wandb").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        code, out, err = call(capsys, train, *WORDS.split(), "--wandb", mode, "--run-dir", tmp_path / "run")
    assert code == 0
    assert "Traceback" not in out + err
    assert weights(tmp_path / "run") == undisturbed
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith("W&B: ")
    assert cause in warning
    assert f"rl-lab sync {tmp_path / 'run'} --rebuild" in warning

"""Faults of W&B: each costs training one warning at most, and no row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mirrored import all_steps, append_rows, gone, make_run_dir, service_of, wait_for
from rl_lab.runs.tracking import CLOSE_SECONDS, NullMirror, start_mirror
from wandb_reader import read_offline_runs

PATIENT = 300.0  # seconds: a process of W&B takes a while to start


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    (run_dir / "wandb").write_text("in the way")
    mirror = start_mirror(run_dir, "offline")
    mirror.close(timeout_seconds=PATIENT)
    assert isinstance(mirror, NullMirror)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "could not start" in caplog.text


def test_a_folder_that_goes_away_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    (run_dir / "wandb" / "segment-0.json").mkdir(parents=True)  # can't be read, nor replaced
    mirror = start_mirror(run_dir, "offline")
    mirror.close(timeout_seconds=PATIENT)
    assert len(caplog.records) == 1
    assert "IsADirectoryError" in caplog.text
    assert f"rl-lab sync {run_dir} --rebuild" in caplog.text


def test_a_killed_mirror_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    os.kill(mirror.process.pid, signal.SIGKILL)
    mirror.process.wait()
    append_rows(run_dir, range(3, 6))
    mirror.close(timeout_seconds=PATIENT)
    mirror.close(timeout_seconds=PATIENT)
    assert len(caplog.records) == 1
    assert "killed by signal 9" in caplog.text
    assert len(caplog.text.splitlines()) == 1


def test_a_killed_service_costs_no_row(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=5)
    mirror = start_mirror(run_dir, "offline")
    wait_for(lambda: service_of(mirror.process.pid)).kill()
    append_rows(run_dir, range(5, 12))
    mirror.close(timeout_seconds=PATIENT)
    assert len(caplog.records) == 1
    last = read_offline_runs(run_dir)[-1]
    assert all_steps([last]) == list(range(0, 1200, 100))
    assert last.exit_code is not None


def test_a_worker_that_holds_the_pipe_open_does_not_delay_the_end(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    worker = subprocess.Popen(["sleep", "3600"], pass_fds=[mirror.process.stdin.fileno()])
    mirror.close(timeout_seconds=PATIENT)
    assert worker.poll() is None
    worker.kill()
    worker.wait()
    assert caplog.records == []
    assert all_steps(read_offline_runs(run_dir)) == [0, 100, 200]


def test_online_without_a_key_goes_on_offline(tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run_dir = make_run_dir(tmp_path, rows=5)
    mirror = start_mirror(run_dir, "online")
    mirror.close(timeout_seconds=PATIENT)
    assert len(caplog.records) == 1
    assert "No API key" in caplog.text
    assert "mirrored offline instead" in caplog.text
    (run,) = read_offline_runs(run_dir)
    assert all_steps([run]) == list(range(0, 500, 100))


def test_a_mirror_that_hangs_is_killed_with_its_service(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    service = wait_for(lambda: service_of(mirror.process.pid))
    os.kill(mirror.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    mirror.close(timeout_seconds=0.3)
    assert time.monotonic() - start < CLOSE_SECONDS / 2
    assert len(caplog.records) == 1
    assert "not done after 0.3 s" in caplog.text
    assert mirror.process.returncode == -signal.SIGKILL
    wait_for(lambda: gone(service))


DYING = """
import os, sys, time
from rl_lab.runs.tracking import start_mirror
mirror = start_mirror(sys.argv[1], "offline")
print(mirror.process.pid, flush=True)
if os.fork() == 0:  # a worker that outlives training and holds the pipe open
    time.sleep(3600)
    os._exit(0)
time.sleep(3600)
"""


def test_the_mirror_ends_when_training_is_killed(tmp_path):
    run_dir = make_run_dir(tmp_path, rows=5)
    command = [sys.executable, "-c", DYING, str(run_dir)]
    parent = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    try:
        mirror = psutil.Process(int(parent.stdout.readline()))
        service = wait_for(lambda: service_of(mirror.pid))
        parent.kill()
        parent.wait()
        wait_for(lambda: gone(mirror) and gone(service))
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
    (run,) = read_offline_runs(run_dir)
    assert all_steps([run]) == list(range(0, 500, 100))
    assert (run.exit_code, run.summary["state"]) == (1, "killed")


def test_rows_that_wandb_lost_are_a_mishap(tmp_path):
    from rl_lab.runs.wandb_mirror import check_written

    check_written(tmp_path)
    (tmp_path / "logs").mkdir()
    log = '{"level":"ERROR","msg":"writer: failed to save record: no space left on device"}\n'
    (tmp_path / "logs" / "debug-internal.log").write_text(log)
    with pytest.raises(OSError, match="could not write all rows"):
        check_written(tmp_path)

"""The mirror: W&B gets every row, no secret, and no say in how training ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from mirrored import CONFIG, append_rows, make_run_dir, row
from rl_lab.evaluation.video import write_video
from rl_lab.runs.tracking import NullMirror, start_mirror
from rl_lab.runs.wandb_mirror import next_segment
from wandb_reader import OfflineRun, read_offline_runs

CANARY = "canary0123456789canary0123456789canary01"  # as long as an API key
SUMMARY = {
    "agent": "dqn",
    "env_steps": 4000,
    "eval_returns": [9.0, 10.0],
    "eval_return_mean": 9.5,
    "regret": None,
    "versions": {"numpy": "2"},
}


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return result


def service_of(mirror_pid: int) -> psutil.Process | None:
    """The wandb-core that a mirror started."""
    children = psutil.Process(mirror_pid).children()
    return next((child for child in children if child.name() == "wandb-core"), None)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def all_steps(runs: list[OfflineRun]) -> list[int]:
    return [entry["env_steps"] for run in runs for entry in run.history]


# ---------------------------------------------------------------- a run that was resumed once

TRAINING = """
import json, os, sys
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
from mirrored import append_rows, row
from test_tracking import SUMMARY
from rl_lab.runs.wandb_mirror import next_segment
from rl_lab.runs.tracking import start_mirror
run_dir = Path(sys.argv[1])
for name in [n for n in sys.modules if n.split(".")[0] == "wandb"]: del sys.modules[name]

mirror = start_mirror(run_dir, "offline")
append_rows(run_dir, range(40))
with open(run_dir / "metrics.jsonl", "a") as file:
    file.write(json.dumps(row(40))[:20])  # killed in the middle of a line
mirror.close()

kept = (run_dir / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:30]
(run_dir / "metrics.jsonl").write_bytes(b"".join(kept))  # the checkpoint is older than the last rows
mirror = start_mirror(run_dir, "offline")
append_rows(run_dir, range(30, 60))
from test_tracking import moving_video
moving_video(run_dir / "videos" / "evaluation_4000.mp4")
(run_dir / "summary.json").write_text(json.dumps(SUMMARY))
mirror.close()
mirror.close()
assert not any(n.split(".")[0] == "wandb" for n in sys.modules), "training imported wandb"
"""


def moving_video(path: Path) -> None:
    frames = [np.full((200, 200, 3), 20 * i, np.uint8) for i in range(5)]
    write_video(path, frames, fps=5)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run directory mirrored in two segments, from a process that is full of secrets."""
    folder = tmp_path_factory.mktemp("mirror")
    run_dir = make_run_dir(folder)
    (folder / "netrc").write_text(f"machine api.wandb.ai login user password {CANARY}-netrc\n")
    environment = os.environ | {
        "WANDB_API_KEY": f"{CANARY}-key",
        "MY_SECRET": f"{CANARY}-environment",
        "WANDB_NOTES": f"{CANARY}-notes",
        "WANDB_BASE_URL": f"http://user:{CANARY}-url@127.0.0.1:1",
        "NETRC": str(folder / "netrc"),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-c",
        TRAINING,
        str(run_dir),
        str(Path(__file__).parent),
        str(Path(__file__).parents[1] / "support"),
        f"--token={CANARY}",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return run_dir, done


def test_training_hears_nothing_from_a_mirror_that_works(resumed):
    run_dir, training = resumed
    assert (training.returncode, training.stdout, training.stderr) == (0, "", "")
    assert (run_dir / "wandb" / "mirror.log").read_text() == ""


def test_a_resumed_run_is_two_segments_of_one_group(resumed):
    first, second = read_offline_runs(resumed[0])
    assert first.run_id.removesuffix("-0") == second.run_id.removesuffix("-1")
    assert (first.name, second.name) == ("dqn-CartPole-v1-s3", "dqn-CartPole-v1-s3-1")
    for run in (first, second):
        assert (run.project, run.group, run.job_type) == ("rl_lab", "study-7", "dqn")
    assert (first.exit_code, second.exit_code) == (1, 0)  # only the second has a summary


def test_the_whole_config_arrives(resumed):
    for run in read_offline_runs(resumed[0]):
        assert run.config == CONFIG


def test_every_row_arrives_on_the_axis_of_env_steps(resumed):
    first, second = read_offline_runs(resumed[0])
    for run, numbers in ((first, range(40)), (second, range(30, 60))):
        assert run.metrics == {"env_steps": "", "*": "env_steps"}
        rows = [entry for entry in run.history if "videos" not in "".join(entry)]
        assert len(rows) == len(numbers)
        for entry, i in zip(rows, numbers, strict=True):
            sent = {k: v for k, v in row(i).items() if v is not None and not isinstance(v, list)}
            got = {k: v for k, v in entry.items() if not k.startswith("_") and not isinstance(v, dict)}
            assert got == sent
    assert first.curve("eval_return_mean") == [(900, 4.5), (1900, 9.5), (2900, 14.5), (3900, 19.5)]


def test_lists_arrive_as_histograms(resumed):
    run = read_offline_runs(resumed[0])[0]
    (_, histogram), *rest = run.curve("eval_returns")
    assert len(rest) == 3
    assert histogram["_type"] == "histogram"
    assert sum(histogram["values"]) == 2
    assert (histogram["bins"][0], histogram["bins"][-1]) == (9, 10)


def test_the_summary_arrives(resumed):
    first, second = read_offline_runs(resumed[0])
    assert "agent" not in first.summary
    assert second.summary["eval_return_mean"] == 9.5  # the summary's, not the last row's 29.5
    assert (second.summary["agent"], second.summary["env_steps"]) == ("dqn", 4000)
    assert "versions" not in second.summary


def test_the_video_is_uploaded(resumed):
    run_dir, _ = resumed
    first, second = read_offline_runs(run_dir)
    assert first.files == []
    (name,) = [file for file in second.files if file.endswith(".mp4")]
    copy = second.folder / "files" / name
    assert copy.read_bytes() == (run_dir / "videos" / "evaluation_4000.mp4").read_bytes()
    ((env_steps, video),) = second.curve("videos/evaluation_4000")
    assert (env_steps, video["_type"], video["path"]) == (5900, "video-file", name)


def test_no_secret_is_in_any_file(resumed):
    run_dir, _ = resumed
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_wandb_writes_only_beneath_its_folder(resumed):
    run_dir, _ = resumed
    names = {path.name for path in run_dir.iterdir()}
    assert names == {"config.json", "metrics.jsonl", "summary.json", "videos", "wandb"}


def test_rebuild_makes_one_whole_run(resumed):
    run_dir, _ = resumed
    before = read_offline_runs(run_dir)
    command = [sys.executable, "-m", "rl_lab.runs.tracking", str(run_dir), "--mode", "offline", "--rebuild"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = [run for run in read_offline_runs(run_dir) if run.run_id not in [b.run_id for b in before]]
    assert all_steps([run]) == [*range(0, 6000, 100), 5900]  # the last one is the video
    assert run.group == "study-7"
    assert len([file for file in run.files if file.endswith(".mp4")]) == 1
    assert next_segment(run_dir, 0).run_id.endswith("-2")  # a rebuilt run is no segment


# ---------------------------------------------------------------- faults


def test_a_folder_that_cannot_be_written_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    (run_dir / "wandb").write_text("in the way")
    mirror = start_mirror(run_dir, "offline")
    mirror.close()
    assert isinstance(mirror, NullMirror)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "could not start" in caplog.text


def test_a_folder_that_goes_away_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    (run_dir / "wandb" / "segment-0.json").mkdir(parents=True)  # can't be read, nor replaced
    mirror = start_mirror(run_dir, "offline")
    mirror.close()
    assert len(caplog.records) == 1
    assert "IsADirectoryError" in caplog.text
    assert "--rebuild" in caplog.text


def test_a_killed_mirror_is_one_warning(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    os.kill(mirror.process.pid, signal.SIGKILL)
    mirror.process.wait()
    append_rows(run_dir, range(3, 6))
    mirror.close()
    mirror.close()
    assert len(caplog.records) == 1
    assert "killed by signal 9" in caplog.text
    assert len(caplog.text.splitlines()) == 1


def test_a_killed_service_costs_no_row(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=5)
    mirror = start_mirror(run_dir, "offline")
    wait_for(lambda: service_of(mirror.process.pid)).kill()
    append_rows(run_dir, range(5, 12))
    mirror.close()
    assert len(caplog.records) == 1
    last = read_offline_runs(run_dir)[-1]
    assert all_steps([last]) == list(range(0, 1200, 100))
    assert last.exit_code is not None


def test_a_worker_that_holds_the_pipe_open_does_not_delay_the_end(tmp_path, caplog):
    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    worker = subprocess.Popen(["sleep", "60"], pass_fds=[mirror.process.stdin.fileno()])
    mirror.close(timeout_seconds=15)
    worker.kill()
    worker.wait()
    assert caplog.records == []
    assert all_steps(read_offline_runs(run_dir)) == [0, 100, 200]


def test_online_without_a_key_goes_on_offline(tmp_path, caplog, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    run_dir = make_run_dir(tmp_path, rows=5)
    mirror = start_mirror(run_dir, "online")
    mirror.close()
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
    assert time.monotonic() - start < 2
    assert len(caplog.records) == 1
    assert "not done after 0.3 s" in caplog.text
    assert mirror.process.returncode == -signal.SIGKILL
    wait_for(lambda: gone(service))


DYING = """
import os, sys, time
from rl_lab.runs.wandb_mirror import next_segment
from rl_lab.runs.tracking import start_mirror
mirror = start_mirror(sys.argv[1], "offline")
print(mirror.process.pid, flush=True)
if os.fork() == 0:  # a worker that outlives training and holds the pipe open
    time.sleep(60)
    os._exit(0)
time.sleep(60)
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
        wait_for(lambda: gone(mirror) and gone(service), seconds=10)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
    (run,) = read_offline_runs(run_dir)
    assert all_steps([run]) == list(range(0, 500, 100))
    assert run.exit_code == 1


def test_rows_that_wandb_lost_are_a_mishap(tmp_path):
    from rl_lab.runs.wandb_mirror import _check_written

    _check_written(tmp_path)
    (tmp_path / "logs").mkdir()
    log = '{"level":"ERROR","msg":"writer: failed to save record: no space left on device"}\n'
    (tmp_path / "logs" / "debug-internal.log").write_text(log)
    with pytest.raises(OSError, match="could not write all rows"):
        _check_written(tmp_path)

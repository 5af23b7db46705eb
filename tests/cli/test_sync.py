"""The command that makes W&B runs from local files: one run over one axis, whatever happened in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import holding
from commands import call, require_refusal
from mirrored import all_steps, append_rows, make_run_dir, row, wait_for
from rl_lab.cli.sync import runs_beneath, sync
from rl_lab.runs.rows import read_rows
from rl_lab.storage.locking import exclusive
from wandb_reader import read_offline_runs
from wandb_server import KEY, standing_in

pytestmark = pytest.mark.usefixtures("nothing_of_wandb")


def upload(run_dir: Path) -> list:
    """What `wandb sync RUN_DIR/wandb/offline-run-*` would upload."""
    return [run for run in read_offline_runs(run_dir) if run.folder.parent == run_dir / "wandb"]


PATIENCE = 120.0  # seconds, since a machine may be busy
START = (
    "--agent q-learning --env-id FrozenLake-v1 --wrappers holding:Holding --total-steps 3000 --eval-episodes 2"
    " --eval-every-steps 1000 --checkpoint-every-steps 200 --log-every-steps 20 --wandb offline"
)


def training(folder: Path, *, resume: bool, **environment: str) -> subprocess.Popen[bytes]:
    """Start or resume a run in a process of its own."""
    words = ["--resume"] if resume else START.split()
    command = [sys.executable, "-m", "rl_lab", "train", *words, "--run-dir", str(folder)]
    paths = [str(Path(holding.__file__).parent), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | environment
    return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def train_until(folder: Path, rows: int, *, resume: bool) -> None:
    """Start or resume a run and kill it once it has so many rows, with which it goes no further, and its segment."""
    metrics, segment = folder / "metrics.jsonl", folder / "wandb" / f"segment-{int(resume)}.json"
    process = training(folder, resume=resume, **{holding.AT: f"{rows} {metrics}"})
    try:
        wait_for(lambda: holding.rows_of(metrics) >= rows and segment.exists(), PATIENCE)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def have_ended(folder: Path, segments: int) -> bool:
    """Say whether so many W&B runs are there, and none is being written any more."""
    found = [json.loads(path.read_text()) for path in (folder / "wandb").glob("segment-*.json")]
    return len(found) == segments and all(segment["end_byte"] is not None for segment in found)


@pytest.mark.long
def test_a_run_killed_and_resumed_twice_is_one_run_over_one_axis(tmp_path, capsys):
    folder = tmp_path / "run"
    train_until(folder, 30, resume=False)
    train_until(folder, 70, resume=True)
    assert training(folder, resume=True).wait() == 0
    wait_for(lambda: have_ended(folder, segments=3), PATIENCE)
    code, out, err = call(capsys, sync, folder, "--mode", "offline")
    assert (code, err) == (0, "")
    (run,) = upload(folder)
    assert out == f"{folder}: written to {run.folder}\nto upload: wandb sync {run.folder}\n"
    sent = [(r["env_steps"], "eval_return_mean" in r) for r in read_rows(folder)]
    assert len(sent) > 150
    came = [(r["env_steps"], "eval/return_mean" in r) for r in run.history if "videos/final" not in r]
    assert came == sent  # no row twice, none missing
    assert [r["_step"] for r in run.history] == list(range(len(run.history)))
    assert (run.exit_code, run.summary["state"]) == (0, "finished")
    assert "-rebuilt-" in run.run_id


def test_a_whole_run_is_made_once_unless_it_is_asked_for_anew(tmp_path, capsys):
    run_dir = make_run_dir(tmp_path, rows=5)
    call(capsys, sync, run_dir)
    (first,) = upload(run_dir)
    assert all_steps([first]) == [0, 100, 200, 300, 400]
    assert first.summary["state"] == "unfinished"
    code, out, _ = call(capsys, sync, run_dir)
    assert (code, out.splitlines()[0]) == (
        0,
        f"{run_dir}: already whole in {first.folder} (--rebuild makes it anew)",
    )
    assert [run.run_id for run in upload(run_dir)] == [first.run_id]
    append_rows(run_dir, range(5, 7))  # the run went on
    call(capsys, sync, run_dir)
    (second,) = upload(run_dir)
    assert second.run_id != first.run_id
    assert all_steps([second]) == [100 * i for i in range(7)]
    call(capsys, sync, run_dir, "--rebuild")
    assert len(upload(run_dir)) == 1
    assert len(list((run_dir / "wandb" / "set-aside").iterdir())) == 2


@pytest.mark.long
def test_all_runs_of_a_study_are_made(tmp_path, capsys):
    runs = [make_run_dir(tmp_path / "study" / name, rows=2) for name in ("a", "b")]
    copy = runs[0] / "wandb" / "data" / "config.json"  # as W&B stages artifacts
    copy.parent.mkdir(parents=True)
    copy.write_text("{}")
    assert list(runs_beneath(tmp_path / "study")) == runs
    code, out, err = call(capsys, sync, tmp_path / "study", runs[0])
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3  # each once, and how to upload them
    made = [upload(run)[0].folder for run in runs]
    assert out.splitlines()[-1] == f"to upload: wandb sync {made[0]} {made[1]}"


def test_online_the_rows_are_uploaded_at_once(tmp_path, capsys, monkeypatch):
    run_dir = make_run_dir(tmp_path, rows=12)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with standing_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        code, out, err = call(capsys, sync, run_dir)
        assert (code, err) == (0, "")
        assert out.startswith(f"{run_dir}: uploaded from {run_dir / 'wandb'}/run-")
        assert [r["env_steps"] for r in server.history()] == [row(i)["env_steps"] for i in range(12)]
        count = len(server.requests)
        assert "already whole" in call(capsys, sync, run_dir)[1]
        assert len(server.requests) == count


def test_nothing_to_sync_is_refused(capsys):
    require_refusal(call(capsys, sync), "RUN_DIR is missing")


def test_what_cannot_be_made_is_said_in_a_line(tmp_path, capsys, monkeypatch):
    require_refusal(call(capsys, sync, tmp_path), repr(str(tmp_path)), "holds no run")
    run_dir = make_run_dir(tmp_path, rows=2)
    monkeypatch.setenv("WANDB_DISABLED", "true")
    require_refusal(call(capsys, sync, run_dir), "WANDB_DISABLED=true", "--mode offline")
    (run_dir / "wandb").write_text("in the way")
    code, out, err = call(capsys, sync, run_dir, "--mode", "offline")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {run_dir}: ")
    assert err.count("\n") == 1


def held_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_config_of_something_else_is_no_run(tmp_path, capsys):
    web = tmp_path / "project" / "web"
    web.mkdir(parents=True)
    (web / "config.json").write_text(json.dumps({"db": "postgres://me:hunter22@host/x"}))
    before = held_files(tmp_path)
    require_refusal(call(capsys, sync, tmp_path / "project"), repr(str(tmp_path / "project")), "holds no run")
    require_refusal(call(capsys, sync, web, "--mode", "offline"), str(web / "config.json"), "damaged")
    assert held_files(tmp_path) == before
    run_dir = make_run_dir(tmp_path / "project", rows=2)
    assert list(runs_beneath(tmp_path / "project")) == [run_dir]


def test_no_run_is_made_where_one_of_the_folders_is_none(tmp_path, capsys):
    run_dir = make_run_dir(tmp_path, rows=2)
    (tmp_path / "empty").mkdir()
    require_refusal(call(capsys, sync, run_dir, tmp_path / "empty", "--mode", "offline"), "holds no run")
    assert not (run_dir / "wandb").exists()


def test_runs_that_cannot_be_made_keep_no_other_from_it(tmp_path, capsys):
    busy, damaged, whole = (make_run_dir(tmp_path / "study" / name, rows=2) for name in "abc")
    (damaged / "config.json").write_text("{")
    with exclusive(busy):  # a lock of this process holds against this process, too
        code, out, err = call(capsys, sync, tmp_path / "study", "--mode", "offline")
    assert code == 1
    first, second = err.splitlines()
    assert first == f"error: {busy}: run_dir {str(busy)!r} is being trained by another process"
    assert second.startswith(f"error: {damaged}: ")
    (run,) = upload(whole)
    assert out == f"{whole}: written to {run.folder}\nto upload: wandb sync {run.folder}\n"


def test_a_run_made_from_its_files_gets_no_code_of_the_folder_where_that_happens(tmp_path, capsys):
    run_dir = make_run_dir(tmp_path / "there", rows=2)
    config = json.loads((run_dir / "config.json").read_text()) | {"wandb_upload": ["code"]}
    (run_dir / "config.json").write_text(json.dumps(config))
    (tmp_path / "foreign.py").write_text("x = 1\n")
    assert call(capsys, sync, run_dir, "--mode", "offline", "--rebuild")[0] == 0
    (run,) = upload(run_dir)
    assert run.artifacts == {}


def test_a_run_that_one_segment_holds_needs_no_other(tmp_path, capsys):
    from rl_lab.runs.tracking import start_mirror

    run_dir = make_run_dir(tmp_path, rows=3)
    mirror = start_mirror(run_dir, "offline")
    (run_dir / "summary.json").write_text(json.dumps({"agent": "dqn"}))
    mirror.close("finished")
    (only,) = upload(run_dir)
    _, out, _ = call(capsys, sync, run_dir)
    assert f"already whole in {only.folder}" in out

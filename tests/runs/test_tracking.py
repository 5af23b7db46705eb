"""The mirror: W&B gets every row, on one axis, and no secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirrored import CANARY, CONFIG, all_steps, make_run_dir, row
from rl_lab.runs.wandb_keys import placed
from rl_lab.runs.wandb_segments import next_segment
from wandb_reader import read_offline_runs

# ---------------------------------------------------------------- a run that was resumed once

TRAINING = """
import json, os, sys
sys.path[:0] = sys.argv[2:4]
from pathlib import Path
from mirrored import SUMMARY, append_rows, moving_video, row
from rl_lab.runs.wandb_segments import next_segment
from rl_lab.runs.tracking import start_mirror
run_dir = Path(sys.argv[1])
for name in [n for n in sys.modules if n.split(".")[0] == "wandb"]: del sys.modules[name]

mirror = start_mirror(run_dir, "offline")
append_rows(run_dir, range(40))
with open(run_dir / "metrics.jsonl", "a") as file:
    file.write(json.dumps(row(40))[:20])  # killed in the middle of a line
mirror.close("stopped", 300.0)

kept = (run_dir / "metrics.jsonl").read_bytes().splitlines(keepends=True)[:30]
(run_dir / "metrics.jsonl").write_bytes(b"".join(kept))  # the checkpoint is older than the last rows
mirror = start_mirror(run_dir, "offline")
append_rows(run_dir, range(30, 60))
moving_video(run_dir / "videos" / "evaluation_4000.mp4")
(run_dir / "summary.json").write_text(json.dumps(SUMMARY))
mirror.close("finished", 300.0)
mirror.close()
assert not any(n.split(".")[0] == "wandb" for n in sys.modules), "training imported wandb"
"""


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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
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
    assert (first.exit_code, second.exit_code) == (0, 0)  # a stopped run did not fail
    assert (first.summary["state"], second.summary["state"]) == ("stopped", "finished")


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
            sent = {placed(k): v for k, v in row(i).items() if v is not None and not isinstance(v, list)}
            got = {k: v for k, v in entry.items() if not k.startswith("_") and not isinstance(v, dict)}
            assert got == sent
    assert first.curve("eval/return_mean") == [(900, 4.5), (1900, 9.5), (2900, 14.5), (3900, 19.5)]


def test_lists_arrive_as_histograms(resumed):
    run = read_offline_runs(resumed[0])[0]
    (_, histogram), *rest = run.curve("eval/returns")
    assert len(rest) == 3
    assert histogram["_type"] == "histogram"
    assert sum(histogram["values"]) == 2
    assert (histogram["bins"][0], histogram["bins"][-1]) == (9, 10)


def test_the_summary_arrives(resumed):
    first, second = read_offline_runs(resumed[0])
    assert "agent" not in first.summary
    assert second.summary["eval/return_mean"] == 9.5  # the summary's, not the last row's 29.5
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
    assert len(before) == 2
    command = [sys.executable, "-m", "rl_lab.runs.tracking", str(run_dir), "--mode", "offline", "--rebuild"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    aside, *_ = [run.folder.parent for run in read_offline_runs(run_dir) if run.run_id == before[0].run_id]
    assert aside == run_dir / "wandb" / "set-aside"  # the segments, so that `wandb sync` sends nothing twice
    (run,) = [run for run in read_offline_runs(run_dir) if run.run_id not in [b.run_id for b in before]]
    assert run.folder.parent == run_dir / "wandb"
    assert (run.name, run.exit_code, run.summary["state"]) == ("dqn-CartPole-v1-s3", 0, "finished")
    assert all_steps([run]) == [*range(0, 6000, 100), 5900]  # the last one is the video
    assert run.group == "study-7"
    assert len([file for file in run.files if file.endswith(".mp4")]) == 1
    assert next_segment(run_dir, 0).run_id.endswith("-2")  # a rebuilt run is no segment

"""Runs on a Ray cluster: killed workers are named and done again, and the results are those of this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

import dying
from rl_lab.runs.signals import STOPPED
from rl_lab.studies.engines.choice import make_engine
from rl_lab.studies.engines.ray_tasks import carry_out
from rl_lab.studies.results import RETURN, load_study
from rl_lab.studies.study import run_study, tasks_of
from rl_lab.studies.table import CLOCKS, table_of
from rl_lab.training.launch import learn
from studies_made import QUIET, small_study, summaries

COMPARE = Path(__file__).parents[2] / "scripts" / "compare.py"
SUPPORT = str(Path(__file__).parents[1] / "support")
FIELDS = QUIET | {
    "total_steps": 300, "eval_every_steps": 100, "checkpoint_every_steps": 50, "wrappers": ("dying:Dying",),
}  # fmt: skip
TIMES = {*CLOCKS, "peak_rss_mb"}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of this machine, which finds the wrapper and the files that ask it to kill; returns their folder."""
    ray = pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("dying")
    short = tempfile.TemporaryDirectory(prefix="rl_lab-ray-test-", dir="/tmp")  # for the paths of sockets
    with pytest.MonkeyPatch.context() as patch, short as temporary:
        patch.setenv(dying.FOLDER, str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([SUPPORT, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False,
            logging_level=logging.CRITICAL, log_to_driver=False, _temp_dir=temporary,
        )  # fmt: skip
        yield folder
        ray.shutdown()


def weights_and_curves(out):
    """Return what was found of each run, but for times."""
    study = load_study(out)
    return {
        (run.env_id, run.agent, run.seed): (
            run.scalar(RETURN),
            run.scalar("regret"),
            [points.tolist() for points in run.curve(RETURN)],
            run.summary and run.summary["weights_sha256"],
        )
        for env_id in study.env_ids
        for run in study.of_env(env_id)
    }


def rows_without_times(out):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in table_of(load_study(out))]


def test_two_of_sixteen_workers_are_killed(tmp_path, cluster):
    study = small_study(env_ids=("FrozenLake-v1", "CliffWalking-v1"), seeds=4, fields=FIELDS)
    out = tmp_path / "out"
    for name in (dying.SELF, dying.SUPERVISOR):
        (cluster / name).touch()
    failures = run_study(study, out, workers=2, engine=make_engine("ray", out, 2))
    assert not list(cluster.iterdir())
    assert sorted(failures.values()) == [
        "the Ray worker was killed, or crashed",
        "the process was killed by signal 9",
    ]
    done = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in summaries(out)}
    assert len(done) == 14
    causes = {(out / path).read_text() for path in out.rglob("error.txt")}
    assert causes == set(failures.values())

    lines: list[str] = []
    assert run_study(study, out, workers=2, tell=lines.append, engine=make_engine("ray", out, 2)) == {}
    assert lines[0] == "14 of 16 runs are done already"
    assert {line.split("] ")[1].split(":")[0] for line in lines[1:]} == set(failures)
    assert all((f / "summary.json").stat().st_mtime_ns == when for f, when in done.items())
    assert not list(out.rglob("error.txt"))

    whole = tmp_path / "whole"
    whole.mkdir()
    for task in tasks_of(study, whole):
        learn(task.agent, **task.fields)
    run_study(study, whole)  # writes study.json, and finds nothing to do
    assert weights_and_curves(out) == weights_and_curves(whole)
    assert rows_without_times(out) == rows_without_times(whole)


def test_a_run_that_had_finished_is_done_although_its_worker_was_killed(tmp_path, cluster, monkeypatch):
    def finish_and_die(desk, work):
        carry_out(desk, work)
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("rl_lab.studies.engines.ray_cluster.carry_out", finish_and_die)
    study = small_study(env_ids=("FrozenLake-v1",), agents=("random",), seeds=1, fields=FIELDS)
    assert run_study(study, tmp_path, workers=1, engine=make_engine("ray", tmp_path, 1)) == {}
    assert not list(tmp_path.rglob("error.txt"))


def command(out, steps, env_id="FrozenLake-v1", agent="random"):
    words = ["--env-id", env_id, "--agents", agent, "--seeds", "2", "--workers", "1", "--engine", "ray"]
    fields = [f"total_steps={steps}", "checkpoint_every_steps=200", "eval_episodes=0", "video_episodes=0"]
    more = ["--wandb", "disabled", "--out", str(out), "--set", *fields, "pictures=false"]
    return [sys.executable, str(COMPARE), *words, *more]


def test_a_cluster_of_its_own_ends_with_a_study_that_is_terminated_after_saving(tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "out"
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    study = subprocess.Popen(command(out, 100_000_000), stdout=subprocess.PIPE, text=True, env=env)
    deadline = time.monotonic() + 200
    while not list(out.glob("runs/*/*/*/checkpoints/*.json")):
        assert time.monotonic() < deadline
        assert study.poll() is None
        time.sleep(0.1)
    started = psutil.Process(study.pid).children(recursive=True)
    assert "raylet" in [process.name() for process in started]
    study.send_signal(signal.SIGTERM)
    told, _ = study.communicate(timeout=200)
    assert study.returncode == STOPPED
    assert told.splitlines()[-1] == "stopped with 2 of 2 runs to go; the same command continues"
    assert psutil.wait_procs(started, timeout=60)[1] == []
    assert not list(Path("/tmp").glob(f"rl_lab-ray-{study.pid}-*"))
    assert not list(out.rglob("error.txt"))
    assert len(list(out.glob("runs/*/*/*/checkpoints"))) == 1  # the other waited for a worker


def test_the_cluster_of_an_address_is_used_and_stays(tmp_path, cluster):
    import ray

    address = ray.get_runtime_context().gcs_address
    env = os.environ | {"RAY_ADDRESS": address}
    words = command(tmp_path / "out", 300, env_id="CartPole-v1", agent="dqn")
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    found = {summary["seed"]: summary["weights_sha256"] for summary in summaries(tmp_path / "out").values()}
    fields = {"eval_episodes": 0, "video_episodes": 0, "pictures": False, "wandb": "disabled"}
    for seed, weights in found.items():
        run = learn(
            "dqn",
            env_id="CartPole-v1",
            seed=seed,
            total_steps=300,
            run_dir=str(tmp_path / str(seed)),
            **fields,
        )
        assert run.summary["weights_sha256"] == weights
    assert list(found) in ([0, 1], [1, 0])
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.getpid()).remote()) != os.getpid()  # it is still there

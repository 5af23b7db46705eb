"""Whatever ends runs of a study, a rerun does exactly what is missing, and the results are the undisturbed ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import dawdling
from rl_lab.runs.signals import STOPPED
from rl_lab.studies import running
from rl_lab.studies.report import write_report
from rl_lab.studies.results import RETURN, load_study
from rl_lab.studies.study import run_study, tasks_of
from rl_lab.studies.table import table_of as rows_of
from rl_lab.training.launch import learn
from studies_made import QUIET, small_study, summaries

COMPARE = Path(__file__).parents[2] / "scripts" / "compare.py"
SUPPORT = str(Path(__file__).parents[1] / "support")
FIELDS = QUIET | {"total_steps": 400, "eval_every_steps": 100, "checkpoint_every_steps": 50}

DYING = """
import json, os, signal, sys
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.studies import worker
save, saves = Checkpoints.save, []

def save_and_die(*args, **kwargs):
    save(*args, **kwargs)
    saves.append(1)
    if len(saves) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoints.save = save_and_die
sys.exit(worker._work(**json.loads(sys.argv[1])))
"""
ON_A_FULL_DISK = """
import json, resource, sys
from rl_lab.studies import worker
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
sys.exit(worker._work(**json.loads(sys.argv[1])))
"""


@pytest.fixture
def started(monkeypatch):
    """The names of the tasks whose workers were started, and the programs to run in place of some workers."""
    original, names, instead = running._command, [], {}

    def command(task, pipe):
        names.append(task.name)
        words = original(task, pipe)
        return [sys.executable, "-c", instead[task.name], words[-1]] if task.name in instead else words

    monkeypatch.setattr(running, "_command", command)
    return names, instead


def name(agent, seed):
    return f"FrozenLake-v1 {agent} seed {seed}"


def table_of(out):
    """Return what the comparison's page shows of each run, but for times, and the hash of its weights."""
    runs = [run for runs in load_study(out).runs.values() for run in runs]
    return {
        (run.env_id, run.agent, run.seed): (
            run.scalar(RETURN),
            run.scalar("regret"),
            [points.tolist() for points in run.curve(RETURN)],
            run.summary and run.summary["weights_sha256"],
        )
        for run in runs
    }


def undisturbed(study, out):
    """Return the table of a study whose runs nothing disturbs, played in this process."""
    out.mkdir(parents=True)
    for task in tasks_of(study, out):
        learn(task.agent, **task.fields)
    run_study(study, out)  # writes study.json, and finds nothing to do
    return table_of(out)


@pytest.mark.long
def test_three_of_eight_workers_are_killed(tmp_path, started):
    names, instead = started
    study = small_study(seeds=4, fields=FIELDS)
    killed = [name("q-learning", 0), name("random", 1), name("q-learning", 3)]
    instead |= dict.fromkeys(killed, DYING)
    failures = run_study(study, tmp_path / "out", workers=3)
    assert failures == dict.fromkeys(killed, "the process was killed by signal 9")
    assert len(names) == 8
    page = write_report(tmp_path / "out").read_text()
    assert "3 of 8 runs are missing" in page
    assert page.count("killed by signal 9") == 2  # once for each agent
    before = {f: (f / "summary.json").stat().st_mtime_ns for f in summaries(tmp_path / "out")}
    assert len(before) == 5

    names.clear()
    instead.clear()
    lines = []
    assert run_study(study, tmp_path / "out", workers=3, tell=lines.append) == {}
    assert sorted(names) == sorted(killed)
    assert lines[0] == "5 of 8 runs are done already"
    assert all((f / "summary.json").stat().st_mtime_ns == when for f, when in before.items())
    assert table_of(tmp_path / "out") == undisturbed(study, tmp_path / "whole")


MEASURED = ("_seconds", "_per_second", "_mb")  # how the names of what isn't repeatable end


def figures_of(out):
    """Return the rows of the study's table, but for time and memory."""
    return [{k: v for k, v in row.items() if not k.endswith(MEASURED)} for row in rows_of(load_study(out))]


@pytest.mark.long
def test_two_of_sixteen_workers_are_killed(tmp_path, started):
    names, instead = started
    study = small_study(seeds=4, env_ids=("FrozenLake-v1", "CliffWalking-v1"), fields=FIELDS)
    killed = ["FrozenLake-v1 q-learning seed 2", "CliffWalking-v1 random seed 1"]
    instead |= dict.fromkeys(killed, DYING)
    failures = run_study(study, tmp_path / "out", workers=2)
    assert failures == dict.fromkeys(killed, "the process was killed by signal 9")
    assert len(names) == len(set(names)) == 16
    assert [row["finished"] for row in figures_of(tmp_path / "out")] == [3, 4, 4, 3]
    causes = [
        run.cause for runs in load_study(tmp_path / "out").runs.values() for run in runs if not run.done
    ]
    assert causes == ["the process was killed by signal 9"] * 2

    names.clear()
    instead.clear()
    assert run_study(study, tmp_path / "out", workers=2) == {}
    assert sorted(names) == sorted(killed)
    assert table_of(tmp_path / "out") == undisturbed(study, tmp_path / "whole")
    assert figures_of(tmp_path / "out") == figures_of(tmp_path / "whole")


@pytest.mark.long
def test_the_disk_is_full_for_one_worker(tmp_path, started):
    names, instead = started
    study = small_study(seeds=2, fields=FIELDS)
    full = name("q-learning", 1)
    instead[full] = ON_A_FULL_DISK
    failures = run_study(study, tmp_path / "out", workers=2)
    assert list(failures) == [full]
    assert "File too large" in failures[full]
    names.clear()
    instead.clear()
    assert run_study(study, tmp_path / "out") == {}
    assert names == [full]
    assert table_of(tmp_path / "out") == undisturbed(study, tmp_path / "whole")


@pytest.fixture
def slow(tmp_path, monkeypatch):
    """The file that keeps runs of comparisons, once they have a checkpoint, from coming to their ends."""
    folder = tmp_path / "dawdling"
    folder.mkdir()
    monkeypatch.setenv(dawdling.FOLDER, str(folder))
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=os.pathsep)
    return dawdling.slow_from(folder, 300)


def start_comparison(out, steps, workers):
    words = ["--env-id", "FrozenLake-v1", "--agents", "q-learning", "--seeds", "3", "--workers", str(workers)]
    fields = [f"total_steps={steps}", "checkpoint_every_steps=200", "eval_episodes=0", "video_episodes=0"]
    fields += ["pictures=false", "wrappers=[dawdling:Dawdling]"]
    command = [sys.executable, str(COMPARE), *words, "--wandb", "disabled", "--out", str(out), "--set"]
    return subprocess.Popen([*command, *fields], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def study_of_comparison(steps):
    fields = {"total_steps": steps, "checkpoint_every_steps": 200, "eval_episodes": 0, "video_episodes": 0}
    fields |= {"pictures": False, "wandb": "disabled", "wrappers": ("dawdling:Dawdling",)}
    return small_study(agents=("q-learning",), seeds=3, fields=fields)


def saved(out):
    """Return how many runs have a checkpoint."""
    return len({path.parent for path in out.glob("runs/*/*/*/checkpoints/*.json")})


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.long
def test_the_machine_goes_down_and_comes_back(tmp_path, started, slow):
    """It does so in the second run."""
    names, _ = started
    out, steps = tmp_path / "out", 5_000
    slow.with_name(dawdling.PASS).touch()
    study = start_comparison(out, steps, workers=1)
    wait_for(lambda: saved(out) == 2)
    workers = psutil.Process(study.pid).children()
    study.kill()
    study.communicate(timeout=60)
    left = psutil.wait_procs(workers, timeout=60)[1]
    for worker in left:
        worker.kill()
    assert not left
    assert [summary["seed"] for summary in summaries(out).values()] == [0]
    slow.unlink()
    assert run_study(study_of_comparison(steps), out) == {}
    assert sorted(names) == [name("q-learning", seed) for seed in (1, 2)]
    assert table_of(out) == undisturbed(study_of_comparison(steps), tmp_path / "whole")


@pytest.mark.long
def test_a_terminated_study_saves_all_its_runs_and_a_rerun_ends_as_if_nothing_had_happened(
    tmp_path, started, slow
):
    names, _ = started
    out, steps = tmp_path / "out", 8_000
    study = start_comparison(out, steps, workers=2)
    wait_for(lambda: saved(out) == 2)
    study.send_signal(signal.SIGTERM)
    told, _ = study.communicate(timeout=120)
    assert study.returncode == STOPPED
    assert told.splitlines()[-1] == "stopped with 3 of 3 runs to go; the same command continues"
    assert not list(out.rglob("error.txt"))
    assert summaries(out) == {}
    slow.unlink()
    assert run_study(study_of_comparison(steps), out, workers=2) == {}
    assert sorted(names) == [name("q-learning", seed) for seed in (0, 1, 2)]
    assert table_of(out) == undisturbed(study_of_comparison(steps), tmp_path / "whole")


def waits_for_it(process, number):
    """Say whether a signal was sent to a suspended process, which will get it when it goes on."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    waiting = [int(bits, 16) for bits in re.findall(r"^(?:Sig|Shd)Pnd:\s*(\w+)", status, re.MULTILINE)]
    return any(bits >> (number - 1) & 1 for bits in waiting)


@pytest.mark.long
@pytest.mark.usefixtures("slow")  # which alone finds the wrapper
@pytest.mark.parametrize("end", ["second signal", "kill"])
def test_no_worker_outlives_a_study_that_ends_at_once(tmp_path, end):
    running = start_comparison(tmp_path, 100_000_000, workers=2)
    wait_for(lambda: saved(tmp_path) == 2)
    workers = psutil.Process(running.pid).children()
    assert len(workers) == 2
    if end == "kill":
        running.kill()
    else:
        for worker in workers:
            worker.suspend()  # they can't answer the first
        running.send_signal(signal.SIGINT)
        wait_for(lambda: all(waits_for_it(worker, signal.SIGTERM) for worker in workers))
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == (-9 if end == "kill" else 128 + signal.SIGINT)
    for worker in workers:
        worker.resume()
    left = psutil.wait_procs(workers, timeout=60)[1]
    for worker in left:
        worker.kill()
    assert not left

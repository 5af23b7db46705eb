"""Workers: what they print is kept within bounds, whatever it is, and why they failed is one line."""

from __future__ import annotations

import sys
import threading
import time

import psutil
import pytest

from rl_lab.studies import running
from rl_lab.studies.logs import LOG_BYTES, LogFile
from rl_lab.studies.running import StopFlag, Stopped, Task, run_task
from rl_lab.studies.study import run_study
from studies_made import small_study


@pytest.fixture
def task(tmp_path):
    fields = {"env_id": "FrozenLake-v1", "seed": 0, "run_dir": str(tmp_path / "run")}
    return Task("q-learning", fields)


@pytest.fixture
def run_code(task, monkeypatch):
    """Runs a program, whose sys.argv[1] is the pipe, in place of the worker; returns the cause and the reports."""

    def run(code):
        monkeypatch.setattr(running, "_command", lambda task, pipe: [sys.executable, "-c", code, str(pipe)])
        reported = []
        return run_task(task, StopFlag(), reported.append), reported

    return run


def log_of(task):
    return (task.folder / "log.txt").read_text(encoding="utf-8")


def test_a_byte_that_is_not_utf8_stops_nothing(task, run_code):
    cause, _ = run_code(
        r"import os; os.write(1, b'out \xff\n'); os.write(2, b'bad \xff byte\n'); os._exit(3)"
    )
    assert cause == "bad \N{REPLACEMENT CHARACTER} byte"
    assert sorted(log_of(task).splitlines()) == [
        "bad \N{REPLACEMENT CHARACTER} byte",
        "out \N{REPLACEMENT CHARACTER}",
    ]
    assert (task.folder / "error.txt").read_text(encoding="utf-8") == cause


def test_a_study_goes_on_when_a_worker_prints_bytes_that_are_not_utf8(tmp_path, monkeypatch):
    original = running._command
    code = r"import os; os.write(2, b'\xff\xfe\n'); os._exit(1)"

    def command(task, pipe):
        return [sys.executable, "-c", code] if task.fields["seed"] == 0 else original(task, pipe)

    monkeypatch.setattr(running, "_command", command)
    failures = run_study(small_study(agents=("random",), seeds=2), tmp_path)
    assert list(failures) == ["FrozenLake-v1 random seed 0"]
    assert (tmp_path / "runs/FrozenLake-v1/random/seed_1/summary.json").exists()


def test_a_huge_line_is_bounded_and_so_are_log_and_cause(task, run_code):
    code = "import sys; sys.stderr.write('a' * 5_000_000); sys.stderr.write('z' * 20_000); sys.exit(1)"
    cause, _ = run_code(code)
    assert cause == "z" * running.LONGEST_CAUSE
    kept = [task.folder / "log.txt.1", task.folder / "log.txt"]
    assert sorted(task.folder.glob("log*")) == sorted(kept)
    assert all(path.stat().st_size <= LOG_BYTES for path in kept)
    assert kept[1].read_text().rstrip().endswith("z" * 10_000)


def test_the_last_part_of_a_log_is_kept(tmp_path):
    log = LogFile(tmp_path / "log.txt")
    for number in range(40_000):
        log.write(f"line {number} {'x' * 90}\n".encode())
    log.close()
    text = "".join((tmp_path / name).read_text() for name in ("log.txt.1", "log.txt"))
    assert LOG_BYTES <= len(text) <= 2 * LOG_BYTES
    numbers = [int(line.split()[1]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 40_000))


def test_a_log_that_cannot_be_written_loses_its_lines_alone(tmp_path):
    (tmp_path / "log.txt").mkdir()
    log = LogFile(tmp_path / "log.txt")
    log.write(b"lost\n")
    log.close()


@pytest.mark.parametrize(("fields", "threads"), [({}, "1"), ({"threads": 3}, "3")])
def test_a_worker_has_one_thread_unless_its_run_asks_for_more(task, run_code, fields, threads):
    task.fields.update(fields)
    run_code("import os; print(*(os.environ[f'{name}_NUM_THREADS'] for name in ('OMP', 'MKL', 'OPENBLAS')))")
    assert log_of(task) == f"{threads} {threads} {threads}\n"


def test_a_log_goes_on_where_the_run_goes_on(task, run_code):
    run_code("print('one')")
    run_code("print('two')")
    assert log_of(task) == "one\ntwo\n"


def test_reports_arrive_and_broken_ones_are_left_out(run_code):
    code = r"""
import os, sys
os.write(int(sys.argv[1]), b'{"env_steps": 3}\n\xff{broken\n[1]\n{"state": "evaluating"}\n')
"""
    cause, reported = run_code(code)
    assert cause == "the process ended with 0"
    assert reported == [{"env_steps": 3}, {}, {}, {"state": "evaluating"}]


def test_a_process_that_is_left_behind_with_the_output_does_not_keep_the_study(task, run_code, monkeypatch):
    monkeypatch.setattr(running, "OUTPUT_SECONDS", 0.1)
    code = f"""
import subprocess, sys, time
from pathlib import Path
folder = Path({str(task.folder)!r})
print("said", flush=True)
while not (folder / "log.txt").exists() or not (folder / "log.txt").stat().st_size:
    time.sleep(0.01)
(folder / "left").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
sys.exit(1)
"""
    cause, _ = run_code(code)
    left = psutil.Process(int((task.folder / "left").read_text()))
    assert left.status() != psutil.STATUS_ZOMBIE  # it still holds the output
    left.kill()
    assert cause == "the process ended with 1"
    assert log_of(task) == "said\n"


def test_a_run_that_cannot_be_started_is_a_failure_with_a_cause(task, monkeypatch):
    monkeypatch.setattr(running, "_command", lambda task, pipe: ["/nowhere/python"])
    before = set(threading.enumerate())
    assert run_task(task, StopFlag()) == "the run could not be started: No such file or directory"
    task.folder.rename(task.folder.with_name("moved"))
    task.folder.write_text("a file")
    assert run_task(task, StopFlag()) == "the run could not be started: File exists"
    assert set(threading.enumerate()) <= before


def test_a_cause_that_cannot_be_written_is_still_told(task, run_code):
    (task.folder / "error.txt").mkdir(parents=True)
    cause, _ = run_code("import sys; sys.exit('no space')")
    assert cause in ("no space", "the run could not be started: Is a directory")


def test_a_worker_that_does_not_stop_is_killed_with_its_own_processes(task, monkeypatch):
    """That is a run which was stopped, and no failure."""
    code = """
import json, os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
os.write(int(sys.argv[1]), json.dumps({"child": child.pid}).encode() + b"\\n")
time.sleep(600)
"""
    monkeypatch.setattr(running, "_command", lambda task, pipe: [sys.executable, "-c", code, str(pipe)])
    monkeypatch.setattr(running, "STOP_SECONDS", 0.3)
    stop, children, processes = StopFlag(), [], []

    def report(values):
        children.extend(values.values())
        processes.extend(map(psutil.Process, values.values()))
        stop.stop_requested = True

    with pytest.raises(Stopped):
        run_task(task, stop, report)
    (child,) = children
    assert child == processes[0].pid
    deadline = time.monotonic() + 60
    while processes[0].is_running() and processes[0].status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (task.folder / "error.txt").exists()


def test_the_cause_of_an_earlier_failure_goes_when_the_run_starts_again(task, run_code):
    assert run_code("import sys; sys.exit('no licence')")[0] == "no licence"
    assert (task.folder / "error.txt").read_text() == "no licence"
    code = f"open({str(task.folder / 'summary.json')!r}, 'w').write('{{}}')"
    assert run_code(code)[0] is None
    assert not (task.folder / "error.txt").exists()

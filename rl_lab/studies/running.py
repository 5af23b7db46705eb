"""Runs one task of a study in a process of its own, keeps what it prints, and says why it failed."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

from rl_lab.environments.modules import SCRIPT_FOLDER, script_folder
from rl_lab.runs.config import RunConfig
from rl_lab.runs.directory import SUMMARY
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.files import write_atomically
from rl_lab.studies.logs import LogFile
from rl_lab.studies.reports import read_report
from rl_lab.studies.results import ERROR
from rl_lab.types import UsageError

POLL_SECONDS = 0.2  # how long a request to stop may go unnoticed while a worker runs
STOP_SECONDS = 120.0  # enough for an evaluation under way, a checkpoint, and W&B's minute at the end
# For the rest of what a worker printed; a process that it left behind may keep the pipe open.
OUTPUT_SECONDS = 5.0
LONGEST_LINE = 10_000  # bytes; a longer one is logged in pieces
LONGEST_CAUSE = 500  # characters
NAMED_OURS = re.compile(r"^rl_lab\.types\.(UsageError|EnvironmentFault): ")  # their messages say it all
VARIANT = (
    "@"  # between an agent's name and the steps over which its schedules are spread, whatever its budget is
)

Report = Callable[[dict[str, Any]], None]  # takes what a run tells of itself: the keys of `reports.Reports`


def learner_of(agent: str) -> str:
    """Return the name under which the registry knows an agent of a study, which may be a variant of it."""
    return agent.partition(VARIANT)[0]


def horizon_of(agent: str) -> dict[str, int]:
    """Return the field by which a variant NAME@STEPS differs from the agent NAME; {} for any other agent.

    Raises:
        UsageError: what follows the agent's name is no number of steps.
    """
    name, mark, steps = agent.partition(VARIANT)
    if not mark:
        return {}
    if not steps.isdecimal() or int(steps) < 1:
        raise UsageError(f"agent {agent!r} is no variant of {name!r} (allowed: {name}{VARIANT}STEPS)")
    return {"horizon_steps": int(steps)}


def steps_of(fields: Mapping[str, Any]) -> int:
    """Return the budget that fields give to a run."""
    return fields.get("total_steps", RunConfig.total_steps)


class Stopped(Exception):
    """A study, or one of its runs, was stopped before its end; the same call continues it."""


@dataclass
class StopFlag:
    """Tells all runs of a study whether to stop."""

    stop_requested: bool = False


@dataclass(frozen=True)
class Task:
    """One run of a study."""

    agent: str  # as the study calls it
    fields: dict[str, Any]  # env_id, seed and run_dir included

    @property
    def learner(self) -> str:
        """The name under which the registry knows the agent."""
        return learner_of(self.agent)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.fields["run_dir"])

    @property
    def summary(self) -> Path:
        """The file that a finished run leaves."""
        return self.folder / SUMMARY

    @property
    def done(self) -> bool:
        """Whether the run has finished, with the budget that it has now."""
        try:
            return json.loads(self.summary.read_bytes()).get("total_steps", math.inf) >= self.total_steps
        except FileNotFoundError:
            return False

    @property
    def total_steps(self) -> int:
        """The budget."""
        return steps_of(self.fields)

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"{self.fields['env_id']} {self.agent} seed {self.fields['seed']}"

    def told(self) -> str:
        """Return how the run has ended, in a few words."""
        summary = json.loads(self.summary.read_bytes())
        value = summary["eval_return_mean"]
        score = "no evaluation" if value is None else f"return {value:.4g}"
        early = f", stopped early at {summary['env_steps']} steps" if summary.get("stopped_early") else ""
        score += ", episodes cut off" if summary.get("eval_limit") else ""
        return f"{score}, {summary['train_seconds']:.1f} s{early}"


def run_task(task: Task, stop: StopFlag, report: Report = lambda values: None) -> str | None:
    """Run one task in its own process; return why it failed (one line), or None if it didn't.

    What the process prints is kept in log.txt; why it failed, in error.txt.

    Args:
        report: takes what the run tells while it goes on, in threads of its own.

    Raises:
        Stopped: the run was stopped before its end.
    """
    if stop.stop_requested:
        raise Stopped
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        (task.folder / ERROR).unlink(missing_ok=True)
        code, last_line = run_worker(task, stop, report)
    except OSError as error:
        return f"the run could not be started: {error.strerror}"
    if task.done:
        return None
    if code == STOPPED or (stop.stop_requested and code < 0):
        raise Stopped
    cause = cause_of(code, last_line)
    with suppress(OSError):  # on a full disk, say; the caller is told in any case
        write_atomically(task.folder / ERROR, cause.encode())
    return cause


def cause_of(code: int, last_line: str) -> str:
    """Return in one line why a process failed, given its exit code and its last line."""
    if code < 0:
        return f"the process was killed by signal {-code}"
    return NAMED_OURS.sub("", last_line)[:LONGEST_CAUSE] or f"the process ended with {code}"


def run_worker(
    task: Task, stop: StopFlag, report: Report, batch: Sequence[dict[str, Any]] = ()
) -> tuple[int, str]:
    """Run a worker, which ends together with this process in any case; return its exit code and last line of stderr.

    Args:
        batch: the fields of each of several runs that are done together, as far as they differ; () for `task` alone.
    """
    receiving, sending = os.pipe()
    try:
        process = _start_worker(task, sending, batch)
    except OSError:
        os.close(receiving)
        raise
    finally:
        os.close(sending)
    lifeline, process.stdin = process.stdin, None  # keeps `wait` from closing it
    assert lifeline is not None
    assert process.stdout is not None
    assert process.stderr is not None
    log, last = LogFile(task.folder / "log.txt"), LastLine()

    def take_error(line: bytes) -> None:
        log.write(line)
        last.take(line)

    pumps = [
        _pump(process.stdout, log.write),
        _pump(process.stderr, take_error),
        _pump(os.fdopen(receiving, "rb"), lambda line: report(read_report(line))),
    ]
    try:
        code = _attend(process, stop)
        for pump in pumps:
            pump.join(OUTPUT_SECONDS)
    finally:
        with suppress(BrokenPipeError):  # a process that ended at once hasn't read what it was told
            lifeline.close()
    log.close()
    return code, last.text


def _start_worker(task: Task, pipe: int, batch: Sequence[dict[str, Any]] = ()) -> subprocess.Popen[bytes]:
    """Start a worker that reports through a pipe, given by its file descriptor."""
    threads, script = str(task.fields.get("threads", 1)), script_folder()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    process = subprocess.Popen(
        _worker("-") if batch else _command(task, pipe),
        env=os.environ | dict.fromkeys(names, threads) | ({} if script is None else {SCRIPT_FOLDER: script}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(pipe,),
        start_new_session=True,  # Ctrl-C goes to this process only, which passes it on
    )
    if batch:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # the process has ended already, and its exit code says how
            process.stdin.write(_batch_work(task, pipe, batch))
            process.stdin.flush()
    return process


def _command(task: Task, pipe: int) -> list[str]:
    return _worker(json.dumps({"agent": task.learner, "fields": task.fields, "pipe": pipe}))


def _batch_work(task: Task, pipe: int, batch: Sequence[dict[str, Any]]) -> bytes:
    """Return a line that tells a worker its runs; a command line would be too short for a thousand."""
    shared = {name: value for name, value in task.fields.items() if name not in batch[0]}
    work = {"agent": task.learner, "fields": shared, "batch": list(batch), "pipe": pipe}
    return json.dumps(work).encode() + b"\n"


def _worker(work: str) -> list[str]:
    # -P keeps the current directory off the import path
    return [sys.executable, "-P", "-m", "rl_lab.studies.worker", work]


class LastLine:
    """Keeps the last line that isn't blank."""

    def __init__(self) -> None:
        self.text = ""

    def take(self, line: bytes) -> None:
        """Take in one line."""
        self.text = line.decode("utf-8", errors="replace").strip() or self.text


def _pump(stream: IO[bytes], take: Callable[[bytes], Any]) -> Thread:
    """Pass on each line of a stream, in pieces if it is long, in a thread of its own, which is returned."""

    def pump() -> None:
        with stream:
            while line := stream.readline(LONGEST_LINE):
                take(line)

    thread = Thread(target=pump, daemon=True)
    thread.start()
    return thread


def _attend(process: subprocess.Popen[bytes], stop: StopFlag) -> int:
    """Wait for a worker and return its exit code; pass on a request to stop, and kill it if that takes long."""
    while not stop.stop_requested:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=POLL_SECONDS)
    process.terminate()
    try:
        return process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its environments' processes too
        return process.wait()

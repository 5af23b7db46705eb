"""Hands the runs of a study to a Ray cluster: that of RAY_ADDRESS, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

from rl_lab.storage.files import write_atomically
from rl_lab.studies.engines.engine import EngineFault
from rl_lab.studies.engines.ray_tasks import Desk, Outcome, Work, carry_out
from rl_lab.studies.results import ERROR
from rl_lab.studies.running import LONGEST_CAUSE, STOP_SECONDS, Report, StopFlag, Stopped, Task
from rl_lab.types import UsageError

ADDRESS = "RAY_ADDRESS"
STORE_BYTES = 80 * 2**20  # of Ray's object store, close to the least that it takes: results lie in files
POLL_SECONDS = 0.25
ANSWER_SECONDS = 10.0  # for the desk
SHARING_SECONDS = 10.0  # until a file that another node wrote is seen here
SLACK_SECONDS = 15.0  # for a task to tell that its run was stopped
# What a run needs to be as the study has it. Keys stay where they are: W&B's is known on the nodes, or it isn't used.
PASSED_ON = ("PYTHONPATH", "SDL_VIDEODRIVER", "MPLBACKEND", "NUMBA_CACHE_DIR")
FOLDER = "rl_lab-ray-"  # followed by the process and something random
OWN = (None, "", "local")  # what RAY_ADDRESS is where a cluster is started
CONNECT_SECONDS = 10.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # tasks that ask for no GPU see all of them, as processes here do
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # which takes SIGTERM from Python, and aborts the process
}


class RayEngine:
    """Carries out each run as a Ray task, on one CPU of a cluster.

    Args:
        out: the study's directory, in a folder that all nodes share.
        workers: how many runs go on at the same time; a cluster of its own has as many CPUs.

    Raises:
        UsageError: nothing listens at RAY_ADDRESS.
    """

    def __init__(self, out: Path, workers: int) -> None:
        if (address := os.environ.get(ADDRESS)) not in (*OWN, "auto"):
            _require_listening(str(address))
        self._out, self._workers = out.absolute(), workers
        self._cluster: _Cluster | None = None
        self._desk: Any = None
        self._carry_out: Any = None

    def __enter__(self) -> Self:
        """Reach the cluster, or start one.

        Raises:
            UsageError: RAY_ADDRESS leads to none.
            EngineFault: one couldn't be started.
        """
        with _environment(QUIET):  # some of it is read when Ray is imported
            import ray

        if not ray.is_initialized():  # else the caller has reached one, and keeps it
            self._cluster = _Cluster(self._workers)
        try:
            desk = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Desk)
            self._desk = desk.remote()
            self._carry_out = ray.remote(num_cpus=1, max_retries=0)(carry_out)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End what was started."""
        import ray

        with suppress(Exception):
            ray.kill(self._desk)
        if self._cluster is not None:
            self._cluster.close()

    def run(self, task: Task, stop: StopFlag, report: Report) -> str | None:
        """Carry out one run; return why it failed (one line), or None if it didn't.

        Raises:
            Stopped: it was stopped before its end.
        """
        import ray

        if stop.stop_requested:
            raise Stopped
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return f"the run could not be started: {error.strerror}"
        reference = self._carry_out.remote(self._desk, self._work(task))
        try:
            outcome = self._attend(reference, task.name, stop, report)
        except ray.exceptions.RayError as error:
            if task.done:  # its worker was killed after the last of it was written
                return None
            if stop.stop_requested:
                raise Stopped from error
            return _noted(task, _cause_of(error))
        if outcome.stopped:
            raise Stopped
        if outcome.cause is None and not _arrived(task):
            where = f"{str(task.folder)!r} here (needed: a folder that all nodes share)"
            return _noted(task, f"the run ended on node {outcome.node}, but nothing of it is in {where}")
        return outcome.cause if outcome.cause is None else _noted(task, outcome.cause)

    def _work(self, task: Task) -> Work:
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return Work(task, str(self._out), str(Path.cwd()), environment)

    def _attend(self, reference: Any, name: str, stop: StopFlag, report: Report) -> Outcome:
        """Pass on what a task reports until it ends; return how.

        Raises:
            RayError: it was killed, or couldn't be carried out.
            Stopped: it didn't end in time after it was asked to.
        """
        import ray

        latest: float | None = None
        while True:
            done, _ = ray.wait([reference], timeout=POLL_SECONDS)
            self._collect(name, stop.stop_requested, report)
            if done:
                return ray.get(reference)
            if stop.stop_requested and latest is None:
                latest = time.monotonic() + STOP_SECONDS + SLACK_SECONDS
            if latest is not None and time.monotonic() > latest:
                ray.cancel(reference, force=True)
                raise Stopped

    def _collect(self, name: str, stopping: bool, report: Report) -> None:
        import ray

        with suppress(ray.exceptions.RayError):  # of a desk that is being started again
            for values in ray.get(self._desk.collect.remote(name, stopping), timeout=ANSWER_SECONDS):
                report(values)


def _noted(task: Task, cause: str) -> str:
    """Keep why a run failed in its folder, for the page; return it in one line."""
    cause = " ".join(cause.split())[:LONGEST_CAUSE]
    with suppress(OSError):  # the caller is told in any case
        write_atomically(task.folder / ERROR, cause.encode())
    return cause


def _cause_of(error: Exception) -> str:
    """Return why a task gave no result. Ray's own messages have many lines, some of which name its log files."""
    import ray

    known = {
        ray.exceptions.WorkerCrashedError: "the Ray worker was killed, or crashed",
        ray.exceptions.OutOfMemoryError: "Ray killed the worker since the node was short of memory",
        ray.exceptions.NodeDiedError: "the node went down",
        ray.exceptions.LocalRayletDiedError: "Ray's process on the node died",
    }
    for kind, cause in known.items():
        if isinstance(error, kind):
            return cause
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"Ray: {type(error).__name__}: {lines[-1] if lines else 'no message'}"


def _arrived(task: Task) -> bool:
    """Wait until it is seen here that a run has finished; return whether it is."""
    latest = time.monotonic() + SHARING_SECONDS
    while not task.done:
        if time.monotonic() > latest:
            return False
        time.sleep(POLL_SECONDS)
    return True


class _Cluster:
    """A connection to a cluster, or a cluster of its own, in a thread that lives as long as it.

    The kernel ends a cluster of its own together with the thread that started it, and Ray takes SIGTERM only in the
    main thread, where it belongs to the study.

    Raises:
        UsageError: RAY_ADDRESS leads to no cluster.
        EngineFault: none could be started.
    """

    def __init__(self, cpus: int) -> None:
        self._cpus, self._address = cpus, os.environ.get(ADDRESS)
        self._error: BaseException | None = None
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="ray", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._refusal(self._error)

    def close(self) -> None:
        """Disconnect; a cluster of its own ends."""
        self._over.set()
        self._thread.join()

    def _hold(self) -> None:
        import ray

        with _folder() as folder, _environment(QUIET):
            try:
                quiet: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
                if self._address in OWN:
                    ray.init(
                        address="local",
                        num_cpus=self._cpus,
                        object_store_memory=STORE_BYTES,
                        include_dashboard=False,
                        _temp_dir=folder,
                        **quiet,
                    )
                else:
                    ray.init(address=self._address, **quiet)
            except BaseException as error:
                self._error = error
            finally:
                self._ready.set()
            if self._error is None:
                self._over.wait()
            with suppress(Exception):
                ray.shutdown()

    def _refusal(self, error: BaseException) -> Exception:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[0] if lines else type(error).__name__
        if self._address:
            return UsageError(f"{ADDRESS} {self._address!r} leads to no cluster that can be used: {why}")
        return EngineFault(f"Ray's local cluster could not be started: {why}")


def _require_listening(address: str) -> None:
    """Check that something listens at an address: Ray itself would try for minutes, and then end the process.

    Raises:
        UsageError: nothing does, or it isn't an address.
    """
    allowed = "allowed: host:port of a cluster that this machine belongs to, auto, local"
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or "/" in host:
        raise UsageError(f"{ADDRESS} {address!r} is no address ({allowed})")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(f"{ADDRESS} {address!r} can't be reached: {error} ({allowed})") from error


@contextmanager
def _folder() -> Iterator[str]:
    """Yield a folder for Ray's sockets and logs, which is removed; its path is short, as sockets need.

    Those of processes that were killed are removed, too.
    """
    place = Path("/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir())
    for left in place.glob(f"{FOLDER}*-*"):
        process = left.name.removeprefix(FOLDER).partition("-")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    folder = tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-", dir=place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

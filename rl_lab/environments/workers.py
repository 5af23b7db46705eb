"""A vector whose environments run in processes of their own, any of which may fail, hang or die."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import logger
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rl_lab.environments.trial import ended
from rl_lab.environments.vectors import MaskedVector, StepResult, known
from rl_lab.types import Array, EnvironmentFault, Obs, UsageError

CLOSE_SECONDS = 2.0  # for environments to close by themselves; after that they are killed
END_SECONDS = 10.0  # at most between the breaking of a pipe and the end of its process: a moment, usually
RAISED = 1  # exit code of a process in which an error was raised
_GONE = (EOFError, ConnectionError, BrokenPipeError)


def _fault_of(i: int, where: str, what: str) -> EnvironmentFault:
    return EnvironmentFault(f"environment number {i} (worker process, {where}): {what}")


def _await_end(processes: Sequence[Any]) -> None:
    """Wait until a process has ended whose pipe has broken; those that end with it have a moment more."""
    connection.wait([process.sentinel for process in processes if process.pid is not None], END_SECONDS)
    for process in processes:
        process.join(0.1)


class _Workers(AsyncVectorEnv):
    """A vector of processes, each of which has a limited time to make its environment.

    Raises:
        UsageError: making an environment raises an error in its process.
        EnvironmentFault: making one ends its process, or takes too long.
    """

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]], timeout_seconds: float):
        self.processes = []
        self._late: list[int] = []  # the places of those that took too long
        timer = threading.Timer(timeout_seconds, self._kill_unmade)
        timer.daemon = True
        with tempfile.TemporaryDirectory() as folder:
            self._makers = [_Maker(make, Path(folder, str(i)), timer.start) for i, make in enumerate(makers)]
            try:
                super().__init__(self._makers, autoreset_mode=AutoresetMode.DISABLED)
            except _GONE as error:
                raise self._not_made(timeout_seconds) from error
            finally:
                timer.cancel()
                if self._unmade():
                    self._kill_all()

    def _unmade(self) -> list[int]:
        """Return the places of the environments that aren't made yet."""
        return [i for i, maker in enumerate(self._makers) if not maker.made.exists()]

    def _kill_unmade(self) -> None:
        self._late = self._unmade()
        for i in self._late:
            self.processes[i].kill()

    def _kill_all(self) -> None:
        self.closed = True  # so that it isn't closed again when it is collected
        for process in self.processes:
            if process.pid is not None:  # it was started
                process.kill()
                process.join()

    def _not_made(self, timeout_seconds: float) -> UsageError | EnvironmentFault:
        if self._late:
            return _fault_of(self._late[0], "while it is made", f"no answer within {timeout_seconds:g} s")
        _await_end(self.processes)
        for i in self._unmade():
            if (code := self.processes[i].exitcode) not in (None, RAISED):
                return _fault_of(i, "while it is made", ended(code))
        return UsageError(
            "an environment can't be made in a process of its own; its error stands above (allowed: vector sync)"
        )


class _Maker:
    """Makes an environment: first in the main process, where the time of the others begins then; and in its own.

    Args:
        made: the file that says that it is made in its own process. (What processes share otherwise isn't pickled.)
    """

    def __init__(self, make: Callable[[], gymnasium.Env], made: Path, begin: Callable[[], None]):
        self._make, self.made, self._begin = make, made, begin
        self._main = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_begin": None}  # which can't be pickled

    def __call__(self) -> gymnasium.Env:
        env = self._make()
        if os.getpid() == self._main:
            self._begin()
        else:
            self.made.touch()
        return env


class WorkerVector(MaskedVector):
    """Environments in worker processes; EnvironmentFault names the one that raised, hung or died.

    Args:
        makers: each makes one environment, in its process.
        timeout_seconds: the longest that a step or reset may take, or the making of an environment.

    Raises:
        UsageError: making an environment raises an error in its process.
        EnvironmentFault: making one ends its process, or takes too long.
    """

    envs: AsyncVectorEnv

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env]], timeout_seconds: float):
        super().__init__(_Workers(makers, timeout_seconds))
        self._timeout = timeout_seconds
        self._seeds: list[int | None] = [None] * self.num_envs
        self._steps = np.zeros(self.num_envs, np.int64)  # of each open episode

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]; the others keep their observations."""
        opened = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        self._steps[opened] = 0
        self._seeds = [new if o else old for new, old, o in zip(seed, self._seeds, opened, strict=True)]
        with self._watched():
            self.envs.reset_async(seed=list(seed), options=options)
            self._await_answers()
            obs, info = self.envs.reset_wait()
        return obs, known(info)

    def step(self, action: Array) -> StepResult:
        """Step all environments; raise ValueError for an action outside the space."""
        given = self._action(action)
        self._steps += 1
        with self._watched():
            self.envs.step_async(given)
            self._await_answers()
            obs, reward, terminated, truncated, info = self.envs.step_wait()
        return obs, reward, terminated, truncated, known(info)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Turn the death of a worker into an EnvironmentFault, and keep tracebacks of workers to ourselves."""
        level, logger.min_level = logger.min_level, logger.ERROR + 1
        try:
            yield
        except _GONE as error:
            raise self._died() from error
        finally:
            logger.min_level = level

    def _await_answers(self) -> None:
        """Wait until every worker has answered or died; raise EnvironmentFault where one takes too long."""
        deadline = time.monotonic() + self._timeout
        for i, pipe in enumerate(self.envs.parent_pipes):
            if not pipe.poll(max(0.0, deadline - time.monotonic())):
                raise self._fault(i, f"no answer within {self._timeout:g} s")

    def _died(self) -> EnvironmentFault:
        """Return the error that names the worker that died, and its exit code."""
        _await_end(self.envs.processes)
        for i, process in enumerate(self.envs.processes):
            if process.exitcode:
                return self._fault(i, ended(process.exitcode))
        dead = [i for i, p in enumerate(self.envs.processes) if not p.is_alive()]
        return self._fault(dead[0] if dead else 0, "its process ended (exit code 0)")

    def _fault(self, i: int, what: str) -> EnvironmentFault:
        at = f"step {self._steps[i]}" if self._steps[i] else "reset"
        return _fault_of(i, f"seed {self._seeds[i]}, {at}", what)

    def close(self) -> None:
        """Close every environment; a worker that doesn't answer is killed. No process is left behind."""
        if self.envs.closed:
            return
        pipes = [pipe for pipe in self.envs.parent_pipes if pipe is not None and not pipe.closed]
        for pipe in pipes:
            with suppress(OSError):  # a dead worker
                pipe.send(("close", None))
        deadline = time.monotonic() + CLOSE_SECONDS
        for process in self.envs.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in pipes:
            pipe.close()
        self.envs.closed = True

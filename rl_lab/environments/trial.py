"""Does the checks before a run in a process of its own, where the environment may hang or end it.

With environments in worker processes, the main process plays none of them before it has been tried so.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from contextvars import ContextVar
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import gymnasium
from gymnasium.vector.utils import CloudpickleWrapper

from rl_lab.environments.ending import leave_unsaid
from rl_lab.environments.observed import RAISED, show_error
from rl_lab.types import EnvironmentFault, UsageError

T = TypeVar("T")

LOOKS_PER_SECOND = 20  # at how far the process has come
_NO_SEED = -1
_marks: ContextVar[Any | None] = ContextVar("marks", default=None)  # int64 [3]: moves so far, seed, step


class Marked(gymnasium.Wrapper):
    """Tells, in memory that processes share, which episode and step an environment is about to play."""

    keeps_model = True

    def __init__(self, env: gymnasium.Env, marks: Any):
        super().__init__(env)
        self._marks, self._step = marks, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        self._step = 0
        self._tell(_NO_SEED if seed is None else seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        self._step += 1
        self._tell(self._marks[1])
        return self.env.step(action)

    def _tell(self, seed: int) -> None:
        self._marks[1], self._marks[2] = seed, self._step
        self._marks[0] += 1


def marked(env: gymnasium.Env) -> gymnasium.Env:
    """Return an environment that tells how far it has come where it is tried in a process, else itself."""
    marks = _marks.get()
    if marks is None:
        return env
    marks[0] += 1  # it is made
    return Marked(env, marks)


def tried(work: Callable[[], T], timeout_seconds: float) -> T:
    """Call a function in a process of its own and return what it returns.

    Args:
        work: makes environments by `make_env` and plays them; what it returns is pickled.
        timeout_seconds: the longest that a step, a reset, or the making of an environment may take.

    Raises:
        UsageError: `work` raises it.
        EnvironmentFault: `work` raises anything else; or the process ends, or an environment takes too long.
    """
    context = multiprocessing.get_context()  # the same as for environments in worker processes
    marks = context.RawArray("q", 3)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(CloudpickleWrapper(work), marks, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        kind, answer = _answer(process, ours, marks, timeout_seconds)
    finally:
        process.kill()
        process.join()
        ours.close()
    if kind == "returned":
        return answer
    raise UsageError(answer) if kind == "usage" else EnvironmentFault(answer)


def _work(work: CloudpickleWrapper, marks: Any, pipe: Connection) -> None:
    """Do the work and send what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends this one
    _marks.set(marks)
    leave_unsaid()
    try:
        pipe.send(("returned", work()))
    except UsageError as error:
        pipe.send(("usage", str(error)))
    except EnvironmentFault as fault:
        pipe.send(("fault", str(fault)))
    except RAISED as error:
        pipe.send(("fault", show_error(error)))


def _answer(process: Any, pipe: Connection, marks: Any, timeout_seconds: float) -> tuple[str, Any]:
    """Wait for what the process sends; raise EnvironmentFault where it ends, or stays at one move for too long."""
    moves, since = -1, time.monotonic()
    while not pipe.poll(1 / LOOKS_PER_SECOND):
        if marks[0] != moves:
            moves, since = marks[0], time.monotonic()
        elif time.monotonic() - since > timeout_seconds:
            raise _fault(marks, f"no answer within {timeout_seconds:g} s")
    try:
        return pipe.recv()
    except EOFError:
        process.join()
        raise _fault(marks, ended(process.exitcode)) from None


def ended(exitcode: int | None) -> str:
    """Return in words how a process ended."""
    code = exitcode or 0
    cause = f"was killed by signal {-code}" if code < 0 else "ended"
    return f"its process {cause} (exit code {code})"


def _fault(marks: Any, what: str) -> EnvironmentFault:
    moves, seed, step = marks
    if not moves:
        return EnvironmentFault(f"environment number 0 (worker process, while it is made): {what}")
    at = f"step {step}" if step else "reset"
    named = "" if seed == _NO_SEED else f"seed {seed}, "
    return EnvironmentFault(f"environment number 0 (worker process, {named}{at}): {what}")

"""Callbacks: what a program hears of a run while it learns, at rows, evaluations and checkpoints.

A callback is a function of one `Event`, called for all three, or an object with any of the methods `on_row`,
`on_evaluation` and `on_checkpoint`, each of which takes the event. It may ask the run to stop, by `event.stop(reason)`
or by returning False. What is learned is the same with and without it: it gets a copy of the row, and once it returns
the global random generators of Python, numpy and torch and the numbers of threads are as they were before.
"""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rl_lab.seeding import untouched_torch
from rl_lab.types import UsageError

Kind = Literal["row", "evaluation", "checkpoint"]
METHODS: dict[Kind, str] = {
    "row": "on_row",
    "evaluation": "on_evaluation",
    "checkpoint": "on_checkpoint",
}
Callback = Any
"""A function `(event: Event) -> bool | None`, or an object with some of METHODS."""


class CallbackFailed(RuntimeError):
    """A callback raised an exception, which is the cause of this one; the run was saved before it ended."""


@dataclass(frozen=True)
class Event:
    """What a callback is told."""

    kind: Kind
    row: dict[str, Any]
    """A copy of what was written: a row of metrics, an evaluation's row, or a checkpoint's env_steps, score (of the
    evaluation at this step, if any) and path."""
    env_steps: int
    total_steps: int
    run_dir: Path
    _stops: list[str] = field(repr=False, compare=False)

    def stop(self, reason: str = "") -> None:
        """Ask the run to save and stop at the next step boundary; it can be resumed as after a signal."""
        self._stops.append(" ".join(str(reason).split()))


class Callbacks:
    """The callbacks of one run, which are called in their order.

    Attributes:
        run_dir: the folder of the run, which events name; whoever starts the run sets it.
        asked: why the run should stop, in one line, as the first callback that asked for it said; None if none did.
        error: the first exception that a callback raised. None is called after that, and the run is asked to stop.

    Raises:
        UsageError: something that is no callback.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()):
        if callable(callbacks) or not isinstance(callbacks, Sequence):
            raise UsageError(f"callbacks must be a list of them, got {callbacks!r}")
        self._callbacks = [(name_of(c), handlers_of(c)) for c in callbacks]
        self.run_dir = Path()
        self.asked: str | None = None
        self.error: CallbackFailed | None = None

    def tell(self, kind: Kind, row: Mapping[str, Any], total_steps: int) -> bool:
        """Call those callbacks that want to hear of this; return whether one asks the run to stop now."""
        before = self.asked
        for name, handlers in self._callbacks:
            if self.error is None and (handler := handlers.get(kind)) is not None:
                stops: list[str] = []
                event = Event(
                    kind, copy.deepcopy(dict(row)), row["env_steps"], total_steps, self.run_dir, stops
                )
                self._call(name, handler, event)
                if stops and self.asked is None:
                    self.asked = f"callback {name}" + (f": {stops[0]}" if stops[0] else "")
        return self.asked != before

    def _call(self, name: str, handler: Callable[[Event], Any], event: Event) -> None:
        try:
            with untouched_generators(), untouched_threads():
                answer = handler(event)
        except Exception as error:
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self.error = CallbackFailed(f"callback {name} failed at env step {event.env_steps}: {cause}")
            self.error.__cause__ = error
            event.stop(f"failed, {cause}")
        else:
            if isinstance(answer, bool | np.bool_) and not answer:
                event.stop()


def handlers_of(callback: Callback) -> dict[Kind, Callable[[Event], Any]]:
    """Return what a callback wants to be called with, by kind of event.

    Raises:
        UsageError: it is neither a function nor an object with one of METHODS.
    """
    handlers: dict[Kind, Callable[[Event], Any]] = {
        kind: getattr(callback, name) for kind, name in METHODS.items() if hasattr(callback, name)
    }
    if handlers:
        return handlers
    if isinstance(callback, type) or not callable(callback):
        raise UsageError(
            f"callback {callback!r} can't be called (allowed: a function of an event, or an object with"
            f" {', '.join(METHODS.values())})"
        )
    function: Callable[[Event], Any] = callback
    return dict.fromkeys(METHODS, function)


def name_of(callback: Callback) -> str:
    """Return what a callback is called in messages."""
    return getattr(callback, "__name__", type(callback).__name__)


@contextmanager
def untouched_threads() -> Iterator[None]:
    """Keep the numbers of threads of torch (if it is imported) and of the loaded BLAS libraries as they are."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    with threadpool_limits():  # limits nothing, and puts the counts back at its end
        try:
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(before)


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Keep the global random generators of Python, numpy and (if it is imported) torch as they are.

    On a GPU that is in use, its generator is kept too.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the global one
    try:
        with untouched_torch():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002

"""What a run of a study tells the study while it goes on: lines of JSON through a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rl_lab.runs.progress import Pace, Spent

STATES = {"": "running", "evaluation": "evaluating"}  # by what a run says it is doing


class Reports:
    """Shows a run's progress to the study that started it; implements `runs.progress.Progress`.

    Whatever the pipe doesn't take at once is dropped: a study that has been suspended stops no run.

    Args:
        pipe: file descriptor to write to.
        total_steps: the budget.
        at: the step to start from.
        run: the number of the run among those of its process; None if it is the only one.
    """

    def __init__(self, pipe: int, total_steps: int, at: int = 0, run: int | None = None):
        self._run = {} if run is None else {"run": run}
        self._pipe, self._total, self._pace = pipe, total_steps, Pace(at)
        os.set_blocking(pipe, False)
        self._send(state="running", env_steps=at, total_steps=total_steps)

    def aim(self, total_steps: int) -> None:
        """Tell the number of steps that the run ends with."""
        self._total = total_steps
        self._send(total_steps=total_steps)

    def show(self, row: dict[str, Any], spent: Spent | None = None) -> None:
        """Tell the row's step and return, and the seconds left."""
        steps = row["env_steps"]
        returns = {"return": row["episode_return_mean"]} if "episode_return_mean" in row else {}
        self._send(env_steps=steps, seconds_left=self._pace.left(steps, self._total), **returns)

    def evaluated(self, figures: Mapping[str, Any]) -> None:
        """Tell the mean return."""
        self._send(eval_return=figures.get("eval_return_mean"))

    def doing(self, what: str) -> None:
        """Tell the state."""
        self._send(state=STATES.get(what, what))

    def note(self, text: str) -> None:
        """Tell the line, and print it to stderr, which is logged."""
        self._send(note=text)
        print(text, file=sys.stderr, flush=True)

    def finish(self, env_steps: int) -> None:
        """Tell the last step."""
        if env_steps:
            self._send(env_steps=env_steps, seconds_left=0.0)

    def close(self) -> None:
        """Do nothing: the pipe closes with the process."""

    def _send(self, **values: Any) -> None:
        with suppress(OSError):
            os.write(self._pipe, json.dumps(values | self._run).encode() + b"\n")


def read_report(line: bytes) -> dict[str, Any]:
    """Return what a line tells; {} if it isn't whole."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}

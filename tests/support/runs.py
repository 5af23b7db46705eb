"""Helpers for tests of whole runs: short ones, stopping at a step, and what a run leaves as hashes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rl_lab
from rl_lab.agent import Policy
from rl_lab.evaluation.evaluator import RunEvaluator
from rl_lab.runs.evaluations import Figures
from rl_lab.runs.run import Run
from rl_lab.training.launch import Result

QUICK = {"wandb": "disabled", "video_episodes": 0, "pictures": False, "eval_episodes": 2, "eval_envs": 2}
"""Fields of a run whose results alone are looked at."""
SMALL_DQN = {
    "learning_starts_env_steps": 40,
    "replay_capacity": 150,
    "batch_size": 8,
    "hidden": (16,),
    "target_period_env_steps": 30,
    "checkpoint_every_steps": 40,
}
"""Fields of a DQN whose replay wraps and whose target moves within a few hundred steps."""


def learn(folder: Path, agent: str, env_id: str, *, stop_at: int | None = None, **fields: Any) -> Result:
    """Train in `folder` without video and tracking; with `stop_at` the run is asked to stop there."""
    with asking_to_stop(stop_at):
        return rl_lab.learn(agent, env_id, run_dir=str(folder), **(QUICK | fields))


@contextmanager
def asking_to_stop(at: int | None) -> Iterator[None]:
    """Ask every run to stop once it has taken `at` environment steps, as a signal would."""
    original = Run.due

    def due(self: Run, env_steps: int) -> bool:
        if at is not None and env_steps >= at:
            self.stop_requested = True
        return original(self, env_steps)

    Run.due = due  # type: ignore[method-assign]
    try:
        yield
    finally:
        Run.due = original  # type: ignore[method-assign]


@contextmanager
def stopping_in_evaluation(which: int) -> Iterator[None]:
    """Let a signal come in the evaluation numbered `which` (from 0) of the runs within the block."""
    original, count = RunEvaluator.measure, itertools.count()

    def measure(self: RunEvaluator, policy: Policy, should_stop: Callable[[], bool]) -> Figures | None:
        if next(count) == which:
            should_stop.__self__.stop_requested = True  # type: ignore[attr-defined]  # a method of the run
        return original(self, policy, should_stop)

    RunEvaluator.measure = measure  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunEvaluator.measure = original  # type: ignore[method-assign]


def differences(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Return the names under which two fingerprints differ."""
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}

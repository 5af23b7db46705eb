"""Runs that are stopped and resumed in stretches, by processes that share nothing with the tests.

A process takes one stretch a line, as JSON [function, arguments], and answers "done" to each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import rl_lab
from runs import SMALL_DQN, asking_to_stop, learn

LSTM = SMALL_DQN | {"memory": "lstm", "memory_size": 8, "sequence_length": 4, "epsilon_final": 0.3}
CASES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    # with the environment steps of one environment; several take twice as many in fewer vector steps
    "q-learning": ("q-learning", "Taxi-v4", 800, {"checkpoint_every_steps": 100}),
    "mlp": ("dqn", "CartPole-v1", 400, SMALL_DQN),
    "lstm": ("dqn", "CartPole-v1", 240, LSTM),
    "cnn": ("dqn", "lab/GridWorldPixels-v0", 120, SMALL_DQN | {"env_kwargs": {"map": "corridor"}}),
}


def steps_of(name: str, num_envs: int) -> int:
    """Return the budget of a case."""
    return CASES[name][2] * (1 if num_envs == 1 else 2)


def start_until(folder: str | Path, name: str, num_envs: int, stop: int | None) -> None:
    """Begin a run, and stop it at a step; None: go on to its end."""
    agent, env_id, _, fields = CASES[name]
    learn(
        Path(folder), agent, env_id, stop_at=stop, total_steps=steps_of(name, num_envs), num_envs=num_envs,
        seed=5, eval_max_steps=50, **fields,
    )  # fmt: skip


def resume_until(folder: str | Path, stop: int | None) -> None:
    """Go on with a run, and stop it at a step; None: go on to its end."""
    with asking_to_stop(stop):
        rl_lab.resume(folder)


class Player:
    """A new process that plays stretches until it is closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def play(self, function: str, *args: Any) -> None:
        """Play a stretch to its end.

        Raises:
            AssertionError: it failed; what the process said stands among the test's own output.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, args]) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Play the stretches that come by standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr
    os.fsync = lambda descriptor: None  # as in the tests' own process
    for line in sys.stdin:
        function, args = json.loads(line)
        {"start_until": start_until, "resume_until": resume_until}[function](*args)
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()

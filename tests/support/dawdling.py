"""A wrapper that takes its time as long as a file is there: meanwhile no run on it comes to its end."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import gymnasium

FOLDER = "RL_LAB_TEST_DAWDLING"  # environment variable: where the files lie
SLOW = "slow"  # holds the number of the step from which an environment is slow
PASS = "pass"  # the first one that would be slow removes it, and isn't
SECONDS = 0.05  # that a slow step takes at least


class Dawdling(gymnasium.Wrapper):
    """Is slow from a step on, counted over all episodes, if the file was there when it was made, until it is gone."""

    def __init__(self, env):
        super().__init__(env)
        self._steps, self._folder = 0, Path(os.environ.get(FOLDER, "nowhere"))
        self._slow_from = float("inf")
        with suppress(FileNotFoundError):
            self._slow_from = int((self._folder / SLOW).read_text())

    def step(self, action):
        self._steps += 1
        if self._steps >= self._slow_from:
            self._dawdle()
        return super().step(action)

    def _dawdle(self):
        with suppress(FileNotFoundError):
            (self._folder / PASS).unlink()
            self._slow_from = float("inf")
            return
        if (self._folder / SLOW).exists():
            time.sleep(SECONDS)


def slow_from(folder: Path, step: int) -> Path:
    """Let environments that are made from here on be slow from this step on; return the file that keeps them so."""
    (folder / SLOW).write_text(str(step))
    return folder / SLOW

"""A wrapper that holds a run once its metrics have so many rows, so that it can't end before it is killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import gymnasium

AT = "RL_LAB_TEST_HOLDING"  # environment variable: the number of rows, and the file that they are in
LONGEST_HOLD = 600.0  # seconds


class Holding(gymnasium.Wrapper):
    """Waits before a step, if there are as many rows as an environment variable says."""

    def step(self, action):
        if AT in os.environ:
            rows, file = os.environ[AT].split(maxsplit=1)
            if rows_of(Path(file)) >= int(rows):
                time.sleep(LONGEST_HOLD)
        return super().step(action)


def rows_of(file: Path) -> int:
    """Return how many whole rows a file has."""
    return file.read_bytes().count(b"\n") if file.exists() else 0

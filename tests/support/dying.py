"""A wrapper that kills the process it is played in, or that of its supervisor, once for each file that asks for it."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import gymnasium

FOLDER = "RL_LAB_TEST_DYING"  # environment variable: where the files lie
SELF, SUPERVISOR = "self", "supervisor"
AT_STEP = 250  # of an environment: no trial plays as long
LONGEST_LIFE = 60.0  # seconds after the supervisor was killed


class Dying(gymnasium.Wrapper):
    """Kills with SIGKILL in its 250th step in a worker of a study, if it finds a file, which it removes before."""

    def __init__(self, env):
        super().__init__(env)
        self._steps = 0

    def step(self, action):
        self._steps += 1
        if self._steps == AT_STEP and FOLDER in os.environ and "rl_lab.studies.worker" in sys.orig_argv:
            for name, process in ((SELF, os.getpid()), (SUPERVISOR, os.getppid())):
                with suppress(FileNotFoundError):
                    (Path(os.environ[FOLDER]) / name).unlink()
                    os.kill(process, signal.SIGKILL)
                    time.sleep(LONGEST_LIFE)  # the run mustn't finish before it notices that its supervisor is gone
        return super().step(action)

"""Lets other processes go first, such as a run that trains while it is watched."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICE = 19  # the lowest priority
TRAINING_FRAMES = 6.0  # pictures a second at most while a run that is followed trains


def give_way(nice: int = NICE) -> bool:
    """Give all threads of this process the lowest priority; return whether the system lets it be set.

    Threads that begin later inherit it. It can't be taken back.
    """
    if not hasattr(os, "setpriority"):
        return False
    tasks = Path("/proc/self/task")
    threads = [int(task.name) for task in tasks.iterdir()] if tasks.is_dir() else [0]
    for thread in threads:  # on Linux each has a priority of its own
        with suppress(OSError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, thread, nice)
    return True

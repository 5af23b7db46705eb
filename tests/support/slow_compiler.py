"""Compilers that don't get anywhere: they tell that they have begun, and wait for a minute."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 60
SCRIPT = f"""import os, sys, time
from pathlib import Path
here = Path(__file__).parent
(here / "new").write_text(str(os.getpid()))
(here / "new").rename(here / "begun")
time.sleep({SECONDS})
(here / "done").touch()
"""


def slow_script(folder: Path) -> Path:
    """Write a Python script that stands for the process that compiles."""
    script = folder / "slow.py"
    script.write_text(SCRIPT)
    return script


def slow_compiler(folder: Path) -> Path:
    """Write a program that stands for the C++ compiler."""
    script = folder / "slow-c++"
    script.write_text(
        f"#!/bin/sh\necho $$ > {folder}/new\nmv {folder}/new {folder}/begun\nsleep {SECONDS}\ntouch {folder}/done\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def wait_for_begin(folder: Path, seconds: float = 120) -> int:
    """Return the number of the process that has begun."""
    until = time.monotonic() + seconds
    while not (folder / "begun").exists():
        assert time.monotonic() < until, "no compiler has begun"
        time.sleep(0.01)
    return int((folder / "begun").read_text())


def was_ended(folder: Path) -> bool:
    """Say whether the process that had begun was ended before it was done."""
    return ends(wait_for_begin(folder)) and not (folder / "done").exists()


def ends(number: int) -> bool:
    """Say whether a process ends soon, and not just because its minute is over."""
    until = time.monotonic() + SECONDS / 2
    while is_running(number) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_running(number)


def is_running(number: int) -> bool:
    """Say whether there is such a process; one that has ended and waits for its parent to notice counts as ended."""
    status = Path(f"/proc/{number}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def signalled(number: signal.Signals, folder: Path) -> Iterator[None]:
    """Send this process a signal, once a compiler that reports to `folder` has begun within a `with` block."""

    def send() -> None:
        wait_for_begin(folder)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    thread.join()

"""Signals: the first one asks a run to stop, a second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch._dynamo  # noqa: F401  an optimiser loads it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_process_at_once(number):
    code = (
        "import os, signal, time, types\n"
        "from rl_lab.runs.signals import stop_on_signals\n"
        "run = types.SimpleNamespace(stop_requested=False)\n"
        "with stop_on_signals(run, enabled=True):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    assert run.stop_requested\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    time.sleep(600)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 128 + number

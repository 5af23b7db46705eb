"""Compiles in a process of its own, which can be ended at any moment together with the compilers that it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

SCRIPT = Path(__file__).with_name("compile_child.py")
POLL_SECONDS = 0.05  # a signal is answered after at most this long


class CompilationStopped(Exception):
    """A compilation was ended because the run was asked to stop; nothing has changed."""


class CompilationFailed(RuntimeError):
    """The compiler failed; the message is one line."""


def compile_in_process(
    exported: torch.export.ExportedProgram,
    options: dict[str, Any],
    folder: Path,
    should_stop: Callable[[], bool],
) -> bytes:
    """Return the library of an exported graph.

    Args:
        options: inductor's.
        folder: where a temporary folder is made for what the compiler writes; private.
        should_stop: asked many times a second.

    Raises:
        CompilationStopped: `should_stop` said so; the compiler has been ended.
        CompilationFailed: it failed by itself.
        OSError: the file system refused.
    """
    with tempfile.TemporaryDirectory(prefix="compiling-", dir=folder, ignore_cleanup_errors=True) as made:
        graph, package, told = (Path(made) / name for name in ("graph.pt2", "library.pt2", "told"))
        torch.export.save(exported, graph)
        command = [sys.executable, "-P", SCRIPT, graph, package, json.dumps(options), torch.get_num_threads()]
        # Compilers leave half-written files when they are ended, so that each process has a folder of its own.
        environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": made, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        with told.open("wb") as file:
            process = subprocess.Popen(
                list(map(str, command)), env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
            try:
                _wait(process, should_stop)
            finally:
                _end(process)
        if process.returncode != 0:
            raise CompilationFailed(_reason(told, process.returncode))
        return _library(package)


def _wait(process: subprocess.Popen, should_stop: Callable[[], bool]) -> None:
    """Wait until the process has ended.

    Raises:
        CompilationStopped: `should_stop` said so.
    """
    while True:
        if should_stop():
            raise CompilationStopped
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_SECONDS)
            return


def _end(process: subprocess.Popen) -> None:
    """End the process and whatever it has started, which all belong to its group."""
    with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group that has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _reason(told: Path, code: int) -> str:
    lines = [line.strip() for line in told.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines or [f"exit code {code}"]
    return f"the update can't be compiled: {errors[-1][:300]} (compile 'no' trains without a compiler)"


def _library(package: Path) -> bytes:
    with zipfile.ZipFile(package) as members:
        return members.read(next(file for file in members.namelist() if file.endswith(".so")))

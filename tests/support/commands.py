"""Helpers for tests of command lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_lab.cli.parsing import main

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TABLE = ["--agent", "q-learning", "--env-id", "FrozenLake-v1"]
QUICK = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2"]


def call(capsys: Any, command: Callable[..., int], *words: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as left:
        main(command, [str(word) for word in words])
    out, err = capsys.readouterr()
    return left.value.code or 0, out, err


def require_refusal(outcome: tuple[int, str, str], *named: str) -> None:
    """Require exactly one line on stderr that names the value and what is allowed, and exit code 2."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for text in named:
        assert text in err


def run_script(name: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout in a process of its own."""
    command = [sys.executable, str(SCRIPTS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by path."""
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

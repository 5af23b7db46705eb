"""The command `rl-lab` itself: which subcommands there are, how they are found, and what is no subcommand."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module

import pytest

import rl_lab
from commands import SCRIPTS, call, require_refusal
from rl_lab.cli.commands import COMMANDS, dispatch

REQUIRED = {
    "train": "--agent random --env-id FrozenLake-v1",
    "compare": "--agents random --env-id FrozenLake-v1",
    "watch": "run",
    "diagnose": "run",
    "export": "run",
    "record": "--out data",
    "check-env": "FrozenLake-v1",
    "solve": "--env-id FrozenLake-v1",
    "benchmark": "acting",
}


class TestDispatch:
    @pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
    def test_lists_the_commands_with_a_line_each(self, capsys, words):
        code, out, err = call(capsys, dispatch, *words)
        assert (code, err) == (0, "")
        assert re.findall(r"^  ([a-z-]+) +\S", out, re.MULTILINE) == list(COMMANDS)
        assert len(out.splitlines()) <= 22

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_under_its_own_name(self, capsys, name):
        code, out, err = call(capsys, dispatch, name, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: rl-lab {name} ")

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_refuses_an_option_that_it_lacks_in_one_line(self, capsys, name):
        words = f"{name} {REQUIRED.get(name, '')} --no-such-option"
        require_refusal(call(capsys, dispatch, *words.split()), "--no-such-option")

    @pytest.mark.parametrize(
        ("word", "hint"),
        [
            ("trian", "close: train"),
            ("agent", "close: agents"),
            ("zzz", "allowed: train, compare"),
            ("--fast", "allowed"),
        ],
    )
    def test_an_unknown_command_is_refused_with_what_is_close(self, capsys, word, hint):
        require_refusal(call(capsys, dispatch, word), repr(word), hint)

    def test_tells_the_version_of_the_installed_package(self, capsys):
        assert call(capsys, dispatch, "--version") == (0, f"rl-lab {rl_lab.__version__}\n", "")

    def test_names_a_function_in_a_module_of_its_own_for_each(self):
        for name in (word.replace("-", "_") for word in COMMANDS):
            command = getattr(import_module(f"rl_lab.cli.{name}"), name)
            assert list(inspect.signature(command).parameters) == ["argv"]

    def test_is_what_python_m_runs(self):
        done = subprocess.run(
            [sys.executable, "-m", "rl_lab", "trian"], capture_output=True, text=True, check=False
        )
        require_refusal((done.returncode, done.stdout, done.stderr), "close: train")


class TestScripts:
    @pytest.mark.parametrize(
        "name", ["train", "compare", "watch", "diagnose", "record", "benchmark", "verify", "torture"]
    )
    def test_run_the_same_code(self, name):
        source = (SCRIPTS / f"{name}.py").read_text()
        assert f"from rl_lab.cli.{name} import {name}\n" in source
        assert source.endswith(f'if __name__ == "__main__":\n    main({name})\n')

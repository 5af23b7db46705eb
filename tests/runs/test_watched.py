"""Whether somebody looks at the output: on a terminal, and in the kernel of a notebook."""

from __future__ import annotations

import sys
import types

import pytest
from tqdm import tqdm

import rl_lab
from rl_lab.runs import progress
from rl_lab.runs.progress import Bar, Lines, make_progress
from rl_lab.runs.watched import is_notebook, is_watched
from runs import QUICK


def in_a_shell(monkeypatch, config):
    """Let IPython be imported, with a shell of this config."""
    shell = types.SimpleNamespace(config=config)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


def on_a_terminal(monkeypatch, answer=True):
    """Let stderr, as it is now, be a terminal or not."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: answer, raising=False)


def test_nobody_looks_at_a_file(monkeypatch):
    on_a_terminal(monkeypatch, False)
    assert not is_watched()
    in_a_shell(monkeypatch, {"TerminalIPythonApp": {}})
    assert not is_notebook()
    assert not is_watched()


def test_a_terminal_is_watched_and_is_no_notebook(monkeypatch):
    on_a_terminal(monkeypatch)
    assert is_watched()
    assert not is_notebook()


def test_ipython_without_a_shell_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert not is_notebook()


def test_a_notebook_is_watched_and_gets_a_bar(monkeypatch):
    in_a_shell(monkeypatch, {"IPKernelApp": {}})
    assert is_watched()
    bar = make_progress(10)
    bar.close()
    assert isinstance(bar, Bar)


@pytest.mark.parametrize("there", [True, False])
def test_the_bar_of_a_notebook_is_of_widgets_where_there_are_any(monkeypatch, there):
    in_a_shell(monkeypatch, {"IPKernelApp": {}})
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if there else None)
    assert (progress._kind_of_bar() is tqdm) is not there


def test_without_either_there_are_lines(monkeypatch):
    on_a_terminal(monkeypatch, False)
    assert isinstance(make_progress(10), Lines)


class TestLearn:
    FIELDS = QUICK | {"total_steps": 50}

    def test_shows_nothing_where_nobody_looks_unless_asked_to(self, tmp_path, capsys):
        rl_lab.learn("random", "FrozenLake-v1", run_dir=tmp_path / "a", **self.FIELDS)
        assert capsys.readouterr() == ("", "")
        rl_lab.learn("random", "FrozenLake-v1", run_dir=tmp_path / "b", progress=True, **self.FIELDS)
        assert "/50 steps" in capsys.readouterr().err

    def test_shows_a_bar_in_a_terminal_unless_asked_not_to(self, tmp_path, capsys, monkeypatch):
        on_a_terminal(monkeypatch)
        rl_lab.learn("random", "FrozenLake-v1", run_dir=tmp_path / "a", **self.FIELDS)
        assert "50.0/50.0" in capsys.readouterr().err
        rl_lab.learn("random", "FrozenLake-v1", run_dir=tmp_path / "b", progress=False, **self.FIELDS)
        assert capsys.readouterr().err == ""

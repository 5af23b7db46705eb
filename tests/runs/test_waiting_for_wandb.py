"""What a person sees at the end of a run while W&B isn't done, as where its server can't be reached."""

from __future__ import annotations

import subprocess
from contextlib import closing

import pytest

from rl_lab.runs import tracking
from rl_lab.runs.progress import NullProgress
from rl_lab.runs.tracking import Mirror, NullMirror
from rl_lab.training import running
from runs import learn


class Heard(NullProgress):
    """Keeps what a run says it is doing, and makes a file once it waits."""

    def __init__(self, waits):
        self.heard, self.waits = [], waits

    def doing(self, what):
        self.heard.append(what)
        if what.startswith("waiting"):
            self.waits.touch()

    def close(self):
        self.heard.append("closed")


@pytest.fixture
def mirror_of(tmp_path, monkeypatch):
    """Makes a mirror that does something, in words of the shell, once it is told to end."""
    monkeypatch.setattr(tracking, "QUIET_SECONDS", 0.3)

    def make(words):
        command = ["sh", "-c", f"read word; {words}"]
        return Mirror(subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0), tmp_path)

    return make


def once_there_is(path):
    """Words of the shell that wait for a file."""
    return f"while [ ! -e '{path}' ]; do sleep 0.02; done"


def test_a_mirror_that_is_soon_done_is_not_worth_a_word(mirror_of, monkeypatch):
    monkeypatch.setattr(tracking, "QUIET_SECONDS", 60.0)
    heard = []
    mirror_of("exit 0").close("finished", doing=heard.append)
    assert heard == []


def test_a_wait_is_told_of_with_its_limit(mirror_of, caplog, tmp_path):
    shown = Heard(tmp_path / "waits")
    mirror_of(once_there_is(shown.waits)).close("finished", doing=shown.doing)
    assert shown.heard == ["waiting up to 60 s for W&B"]
    assert caplog.records == []


def test_the_limit_holds_for_the_wait_as_a_whole(mirror_of, caplog):
    heard = []
    mirror = mirror_of("sleep 600")
    with closing(mirror.process.stdin):
        mirror.close("finished", 0.5, doing=heard.append)
    assert heard == ["waiting up to 0 s for W&B"]
    assert "not done after 0.5 s" in caplog.text


def test_nothing_is_waited_for_without_wandb():
    heard = []
    NullMirror().close("finished", doing=heard.append)
    assert heard == []


def test_a_run_shows_the_wait_before_its_display_is_closed(mirror_of, monkeypatch, tmp_path):
    shown = Heard(tmp_path / "waits")
    mirror = mirror_of(once_there_is(shown.waits))
    monkeypatch.setattr(running, "start_mirror", lambda folder, mode: mirror)
    learn(tmp_path / "run", "random", "FrozenLake-v1", total_steps=20, progress=lambda *at: shown)
    assert shown.heard[-3:] == ["waiting up to 60 s for W&B", "", "closed"]

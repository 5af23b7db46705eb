"""The mirror's own process: when it ends, what it does after a failure, and its exit codes."""

from __future__ import annotations

import os
import sys
from unittest.mock import patch

import pytest

from rl_lab.runs import tracking, wandb_mirror
from rl_lab.runs.tracking import KILLED, LINGER_SECONDS, MISHAP, WENT_OFFLINE, Ending, main
from rl_lab.runs.wandb_segments import next_segment

SIZE = ["--size", "70"]


class Replaced(Exception):
    """The process became another program."""


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "wandb").mkdir()  # training makes it
    return tmp_path


@pytest.fixture(autouse=True)
def called(monkeypatch):
    """What would change this process, as it is asked for; the environment comes back as it was."""
    calls = {"alarm": [], "setpriority": [], "execve": []}
    monkeypatch.setattr(tracking.signal, "alarm", calls["alarm"].append)
    monkeypatch.setattr(tracking.os, "setpriority", lambda *given: calls["setpriority"].append(given))

    def execve(*given):
        calls["execve"].append(given)
        raise Replaced

    monkeypatch.setattr(tracking.os, "execve", execve)
    with patch.dict(os.environ):
        yield calls


@pytest.fixture
def mirrored(monkeypatch):
    """Stands for W&B: keeps what it is called with, and raises `error` if a test sets it."""

    class Mirrored(list):
        error: Exception | None = None

    calls = Mirrored()

    def mirror(*given, following=True):
        calls.append(given)
        if calls.error is not None:
            raise calls.error

    monkeypatch.setattr(wandb_mirror, "mirror", mirror)
    return calls


class TestFollowing:
    @pytest.mark.parametrize(("size", "start"), [(70, 50), (40, 40)], ids=["longer", "cut back"])
    def test_goes_on_where_the_last_mirror_stopped(self, run_dir, mirrored, called, size, start):
        last = next_segment(run_dir, 50)
        last.end_byte = 50
        last.write()
        assert main([str(run_dir), "--mode", "online", "--size", str(size)]) == 0
        ((folder, mode, segment, _),) = mirrored
        assert (folder, mode, segment.start_byte) == (run_dir, "online", start)
        assert called["execve"] == []

    @pytest.mark.parametrize(("own", "lowered"), [(0, 10), (15, 15)])
    def test_leaves_the_cores_to_training(self, run_dir, mirrored, called, monkeypatch, own, lowered):
        monkeypatch.setattr(tracking.os, "getpriority", lambda *_: own)
        main([str(run_dir), *SIZE])
        assert called["setpriority"] == [(os.PRIO_PROCESS, 0, lowered)]

    def test_starts_again_offline_after_a_failure(self, run_dir, mirrored, called, capsys, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", "secret")
        mirrored.error = ConnectionError("no\n  route")
        with pytest.raises(Replaced):
            main([str(run_dir), "--mode", "online", *SIZE])
        assert capsys.readouterr().out == f"{MISHAP}ConnectionError: no route\n"
        ((program, command, environment),) = called["execve"]
        assert program == sys.executable
        assert command[-6:] == [str(run_dir), "--mode", "offline", *SIZE, "--retry"]
        assert "WANDB_API_KEY" not in environment

    def test_says_that_it_went_offline(self, run_dir, mirrored):
        assert main([str(run_dir), *SIZE, "--retry"]) == WENT_OFFLINE

    def test_does_not_try_a_third_time(self, run_dir, mirrored, called, capsys):
        mirrored.error = OSError("full")
        assert main([str(run_dir), *SIZE, "--retry"]) == 1
        assert (capsys.readouterr().out, called["execve"]) == (f"{MISHAP}OSError: full\n", [])


class TestEnd:
    @pytest.fixture
    def pipe(self, monkeypatch):
        """The end of the mirror's standard input that training holds."""
        out, into = os.pipe()
        with os.fdopen(out) as stdin, os.fdopen(into, "wb", buffering=0) as training:
            monkeypatch.setattr(sys, "stdin", stdin)
            yield training

    def test_is_not_before_training_says_so(self, pipe, called):
        ending = Ending(os.getppid())
        assert ending(0.0) is None
        assert called["alarm"] == []
        pipe.write(b"stopped\n")
        assert (ending(0.0), ending.word) == ("stopped", "stopped")
        assert called["alarm"] == [LINGER_SECONDS]
        assert ending(0.0) == "stopped"  # the pipe holds nothing any more

    def test_comes_when_training_closes_the_pipe(self, pipe):
        ending = Ending(os.getppid())
        pipe.close()
        assert ending(0.0) == KILLED

    def test_comes_when_training_is_gone(self, pipe, called):
        assert Ending(os.getppid() + 1)(0.0) == KILLED
        assert called["alarm"] == [LINGER_SECONDS]

    def test_is_known_to_a_mirror_that_starts_again(self, run_dir, mirrored, called, pipe):
        main([str(run_dir), *SIZE, "--ended", "stopped", "--retry"])
        ((*_, ending),) = mirrored
        assert ending(0.0) == "stopped"
        mirrored.error = OSError("late")
        with pytest.raises(Replaced):
            main([str(run_dir), *SIZE, "--ended", "stopped"])
        ((_, command, _),) = called["execve"]
        assert command[-3:] == ["--ended", "stopped", "--retry"]


class TestRebuilding:
    def test_takes_the_whole_run_with_the_mirror_s_environment_alone(self, run_dir, mirrored, monkeypatch):
        monkeypatch.setenv("MY_SECRET", "x")
        assert main([str(run_dir), "--rebuild"]) == 0
        ((folder, mode, segment, ended),) = mirrored
        assert (folder, mode, segment.start_byte, ended(1.0)) == (run_dir, "offline", 0, "unfinished")
        assert dict(os.environ) == tracking.mirror_environment(run_dir, "offline")

    def test_says_in_one_line_why_it_failed(self, run_dir, mirrored, capsys):
        mirrored.error = ValueError("two\nlines")
        assert main([str(run_dir), "--rebuild"]) == 1
        assert capsys.readouterr() == ("", "W&B: ValueError: two lines\n")


def test_a_folder_without_a_run_is_refused(tmp_path, mirrored, capsys):
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path)])
    assert left.value.code == 2
    assert f"RUN_DIR {str(tmp_path)!r} has no config.json" in capsys.readouterr().err
    assert mirrored == []

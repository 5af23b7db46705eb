"""Many runs in one process get room for their files, or are refused before there is a folder."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import rl_lab
from rl_lab.runs import open_files
from rl_lab.types import UsageError

ROOM = """
import resource
from rl_lab.runs.open_files import room_for
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))
with room_for(20):
    files = [open("/dev/null") for _ in range(300)]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (20 * 6 + 200, hard)
    with room_for(1):
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (20 * 6 + 200, hard)  # is never lowered
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (50, hard)
"""


@pytest.fixture
def few(monkeypatch):
    """A process that may open 260 files, and so those of ten runs."""
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (100, 260))


def test_the_number_that_fits_is_named(few):
    assert open_files.refuse_open_files(10) is None
    assert open_files.refuse_open_files(11) == (
        "they keep 266 files open, and this process may open 260 (allowed: up to 10 runs, or more with a higher hard"
        " limit, `ulimit -Hn`)"
    )


def test_without_a_limit_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (100, resource.RLIM_INFINITY))
    assert open_files.refuse_open_files(10**6) is None


def test_too_many_seeds_are_refused_before_there_is_a_folder(few, tmp_path):
    with pytest.raises(
        UsageError, match="num_seeds 11 can't be given to agent 'dqn': they keep 266 files open"
    ):
        rl_lab.learn("dqn", "CartPole-v1", num_seeds=11, run_dir=tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


def test_the_process_s_own_limit_is_raised_for_as_long_as_it_is_needed():
    subprocess.run([sys.executable, "-c", ROOM], check=True)


def test_a_system_that_allows_no_more_is_told_of(monkeypatch):
    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(open_files.resource, "getrlimit", lambda _: (260, resource.RLIM_INFINITY))
    monkeypatch.setattr(open_files.resource, "setrlimit", refuse)
    with (
        pytest.raises(
            UsageError, match=r"11 runs keep 266 files open, .* raise .* \(allowed: up to 10 runs\)"
        ),
        open_files.room_for(11),
    ):
        pass


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system doesn't list open files")
@pytest.mark.parametrize("mode", ["disabled", "offline"])
def test_a_run_keeps_no_more_files_open_than_it_is_given_room_for(tmp_path, mode):
    most = {}

    def count(number):
        return lambda _: most.update({number: max(most.get(number, 0), len(os.listdir("/proc/self/fd")))})

    for number in (2, 6):
        rl_lab.learn(
            "dqn", "CartPole-v1", num_seeds=number, total_steps=40, run_dir=tmp_path / str(number), hidden=(4,),
            device="cpu", wandb=mode, eval_episodes=1, video_episodes=0, pictures=False, callbacks=[count(number)],
            progress=False,
        )  # fmt: skip
    assert 4 * 3 <= most[6] - most[2] <= 4 * open_files.OF_RUN

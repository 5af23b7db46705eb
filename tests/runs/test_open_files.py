"""Many runs in one process get room for their files, or are refused before there is a folder."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

import rl_lab
from rl_lab.runs import open_files
from rl_lab.types import UsageError

ROOM = """
import resource
from rl_lab.runs.open_files import make_room
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))
make_room(20)
files = [open("/dev/null") for _ in range(300)]
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (20 * 6 + 200, hard)
make_room(1)  # is never lowered
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (20 * 6 + 200, hard)
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


def test_the_process_s_own_limit_is_raised():
    subprocess.run([sys.executable, "-c", ROOM], check=True)


@pytest.mark.long
def test_more_runs_learn_together_than_the_limit_had_room_for(tmp_path):
    script = (
        "import resource, sys, rl_lab\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, hard))\n"
        "found = rl_lab.learn('dqn', 'CartPole-v1', num_seeds=15, total_steps=40, run_dir=sys.argv[1],"
        " hidden=(4,), device='cpu', wandb='disabled', eval_episodes=0, video_episodes=0, pictures=False)\n"
        "assert len(found) == 15\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "runs")], check=True)

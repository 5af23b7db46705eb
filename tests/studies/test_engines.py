"""Engines: how one is chosen, and what a task on a node of a cluster does."""

from __future__ import annotations

import builtins
import importlib.util
import socket

import pytest

import rl_lab
from rl_lab.studies.engines import choice, ray_tasks
from rl_lab.studies.engines.choice import make_engine
from rl_lab.studies.engines.engine import LocalEngine
from rl_lab.studies.engines.ray_tasks import Desk, Outcome, Work, carry_out
from rl_lab.studies.running import Stopped, Task
from rl_lab.types import UsageError

TASK = Task("random", {"env_id": "FrozenLake-v1", "seed": 0, "run_dir": "run"})


def test_an_unknown_engine_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"unknown engine 'dask' \(allowed: local, ray\)"):
        rl_lab.compare("FrozenLake-v1", "random", out=tmp_path / "out", engine="dask")
    assert not (tmp_path / "out").exists()


def test_without_ray_the_engine_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"isn't installed \(pip install 'rl_lab\[ray\]'\)"):
        make_engine("ray", tmp_path, 1)


def test_the_local_engine_needs_nothing_of_ray(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        assert name.partition(".")[0] != "ray"
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert isinstance(make_engine("local", tmp_path, 1), LocalEngine)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("nowhere", "is no address"),
        ("ray://127.0.0.1:10001", "is no address"),
        ("127.0.0.1:{free}", "can't be reached: .*refused"),
    ],
)
def test_an_address_at_which_nothing_listens_is_refused_at_once(tmp_path, monkeypatch, address, named):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray isn't installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        monkeypatch.setenv("RAY_ADDRESS", address.format(free=taken.getsockname()[1]))
        with pytest.raises(UsageError, match=f"RAY_ADDRESS .*{named}.*allowed: host:port"):
            make_engine("ray", tmp_path, 1)


def test_the_desk_keeps_reports_apart_and_the_latest_of_many():
    desk = Desk()
    desk.visit("a", [{"env_steps": k} for k in range(ray_tasks.KEPT_REPORTS + 5)])
    assert desk.visit("b", [{"state": "running"}]) is False
    assert [r["env_steps"] for r in desk.collect("a", False)] == list(range(5, ray_tasks.KEPT_REPORTS + 5))
    assert desk.collect("a", False) == []
    assert desk.collect("b", True) == [{"state": "running"}]
    assert desk.visit("a", []) is True
    desk.collect("a", False)
    assert desk.visit("a", []) is True  # once said, it stays


def work(folder, study):
    return Work(TASK, str(study), str(folder), {})


def test_a_node_that_lacks_the_study_says_so(tmp_path):
    study = tmp_path / "study"
    for directory, lacking in ((tmp_path / "none", str(tmp_path / "none")), (tmp_path, str(study))):
        outcome = carry_out(None, work(directory, study))
        assert outcome.cause is not None
        assert lacking in outcome.cause
        assert outcome.cause.endswith("(needed: a folder that all nodes share)")
    study.mkdir()  # a folder of the same name that isn't shared
    assert "isn't that of the study" in (carry_out(None, work(tmp_path, study)).cause or "")


class Silent:
    """A visit without a cluster."""

    def __init__(self, *args):
        pass

    def __enter__(self):
        return []

    def __exit__(self, *error):
        pass


def test_a_task_runs_where_the_study_does_and_says_how_it_ended(tmp_path, monkeypatch):
    (tmp_path / "study.json").touch()
    monkeypatch.chdir("/")
    monkeypatch.setattr(ray_tasks, "_visiting", Silent)
    here = []

    def run(task, stop, report):
        here.append(ray_tasks.os.getcwd())
        raise Stopped

    monkeypatch.setattr(ray_tasks, "run_task", run)
    outcome = carry_out(None, work(tmp_path, tmp_path))
    assert (outcome.cause, outcome.stopped, here) == (None, True, [str(tmp_path)])
    monkeypatch.setattr(ray_tasks, "run_task", lambda *_: "why")
    assert carry_out(None, work(tmp_path, tmp_path)) == Outcome(socket.gethostname(), "why")

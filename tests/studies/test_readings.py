"""Runs of a study that began with an older version: further ones are measured like them, or the study is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rl_lab.runs.description import read_description
from rl_lab.studies.readings import as_begun
from rl_lab.studies.running import Task
from rl_lab.studies.study import run_study, tasks_of
from rl_lab.training.launch import learn, resume
from rl_lab.types import UsageError
from studies_made import QUIET, small_study

UNLIMITED = 2**63 - 1  # discrete observations were never embedded
CUT_OFF = QUIET | {"total_steps": 40, "eval_episodes": 3, "eval_max_steps": 1500, "eval_every_steps": 40}
LAB = {"hidden": (8,), "device": "cpu"} | CUT_OFF


@pytest.fixture
def in_process(monkeypatch):
    """Runs of studies are trained in this process, which is faster."""
    monkeypatch.setattr("rl_lab.studies.study.run_task", lambda task, *_: learned(task))


def learned(task: Task) -> None:
    if (task.folder / "config.json").exists():
        resume(task.folder)
    else:
        learn(task.agent, **task.fields)


def as_older(folder: Path) -> None:
    """Rewrite what a run left as format 2 had it; it is still to be finished."""
    path = folder / "config.json"
    body = json.loads(path.read_bytes()) | {"format": 2}
    del body["eval_total_steps"]
    for name in ("channels", "image_scale", "one_hot_most"):
        body["fields"].pop(name, None)
    path.write_text(json.dumps(body))
    (folder / "summary.json").unlink()


@pytest.mark.usefixtures("in_process")
def test_further_seeds_and_agents_are_evaluated_as_those_that_have_begun(tmp_path):
    cliff = {"env_ids": ("CliffWalking-v1",), "fields": CUT_OFF | {"eval_gamma": 0.9}}
    run_study(
        small_study(seeds=1, agents=("random",), **cliff),
        tmp_path,
    )
    as_older(tmp_path / "runs/CliffWalking-v1/random/seed_0")
    lines = []
    assert run_study(small_study(seeds=2, **cliff), tmp_path, tell=lines.append) == {}
    found = {path: json.loads(path.read_bytes()) for path in tmp_path.glob("runs/*/*/*/summary.json")}
    assert [len(summary["eval_returns"]) for summary in found.values()] == [3] * 4
    configs = [read_description(path.parent).config for path in found]
    assert {config.eval_total_steps for config in configs} == {4500}
    told = [line for line in lines if "as in those that have begun" in line]
    assert told == [
        f"CliffWalking-v1 {agent}: eval_total_steps 4500 in further runs, as in those that have begun"
        for agent in ("q-learning", "random")
    ]


@pytest.mark.usefixtures("in_process")
def test_networks_of_further_seeds_take_discrete_observations_as_before(tmp_path):
    def tasks(seeds, **more):
        given = small_study(agents=("dqn",), seeds=seeds, fields=LAB | more)
        return tasks_of(given, tmp_path)

    run_study(small_study(agents=("dqn",), seeds=1, fields=LAB), tmp_path)
    as_older(tasks(1)[0].folder)
    lines = []
    begun, new = as_begun(tasks(2), lines.append)
    assert "one_hot_most" not in begun.fields
    assert (new.fields["one_hot_most"], new.fields["eval_total_steps"]) == (UNLIMITED, 4500)
    assert len(lines) == 1
    chosen = as_begun(tasks(2, one_hot_most=5, eval_total_steps=50), lines.append)[1]
    assert (chosen.fields["one_hot_most"], chosen.fields["eval_total_steps"]) == (5, 50)
    assert len(lines) == 1


@pytest.mark.usefixtures("in_process")
def test_nothing_changes_where_all_runs_are_of_this_version(tmp_path):
    run_study(small_study(seeds=1), tmp_path)
    tasks = tasks_of(small_study(), tmp_path)
    assert as_begun(tasks, pytest.fail) == tasks


def test_a_damaged_run_fails_alone(tmp_path):
    tasks = tasks_of(small_study(), tmp_path)
    tasks[0].folder.mkdir(parents=True)
    (tasks[0].folder / "config.json").write_text("{")
    assert as_begun(tasks, pytest.fail) == tasks


def test_a_refusal_leaves_the_study_as_it_was(tmp_path, monkeypatch):
    """Images are read otherwise, so further seeds are refused, and what is there can still be finished."""
    fixtures = Path(__file__).parents[1] / "fixtures" / "format_2_bytes"
    monkeypatch.syspath_prepend(str(fixtures))
    env_id = "format_2_envs:Format2Planes-v0"
    fields = QUIET | {"total_steps": 4, "hidden": (8,), "channels": "last", "eval_episodes": 0}
    given = {"env_ids": (env_id,), "agents": ("dqn",), "fields": fields}
    monkeypatch.setattr("rl_lab.studies.study.run_task", lambda task, *_: "not run")
    run_study(small_study(seeds=1, **given), tmp_path)
    before = (tmp_path / "study.json").read_bytes()
    (task,) = tasks_of(small_study(seeds=1, **given), tmp_path)
    shutil.copytree(fixtures / "dqn-planes", task.folder)
    with pytest.raises(UsageError, match="as older versions read images"):
        run_study(small_study(seeds=2, **given), tmp_path)
    assert (tmp_path / "study.json").read_bytes() == before
    run_study(small_study(seeds=1, **given), tmp_path)  # isn't refused

"""Films that a run was to end with and that aren't there are told on the page."""

from __future__ import annotations

import json

import pytest

from page_studies import LAKE, describe, write_run
from rl_lab.studies.page.media import unfilmed
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study


@pytest.fixture
def study(tmp_path):
    """Two agents with two runs each, that ask for a film."""
    describe(tmp_path, ["dqn", "ppo"])
    for agent in ("dqn", "ppo"):
        for seed in (0, 1):
            run = write_run(tmp_path, agent, seed, [0.5], env_steps=100)
            asking(run, 1)
            (run / "log.txt").touch()
    return tmp_path


def asking(run, episodes):
    config = json.loads((run / "config.json").read_bytes())
    (run / "config.json").write_text(json.dumps(config | {"video_episodes": episodes}))


def runs_of(study, agent):
    return [run.directory for run in load_study(study).runs[LAKE, agent]]


def filmed(run, content=b"film"):
    (run / "videos").mkdir()
    (run / "videos" / "final.mp4").write_bytes(content)


def test_an_agent_without_any_film_is_told(study):
    filmed(runs_of(study, "ppo")[1])
    assert unfilmed(load_study(study), LAKE) == ["dqn"]
    assert (
        "No film of dqn: log.txt in the folders of the runs may say why." in write_report(study).read_text()
    )


def test_several_are_told_together_and_an_empty_film_is_none(study):
    filmed(runs_of(study, "ppo")[0], b"")
    assert "No film of dqn and ppo: log.txt" in write_report(study).read_text()


def test_an_agent_that_was_not_to_be_filmed_or_is_under_way_is_not(study):
    for run in runs_of(study, "dqn"):
        asking(run, 0)
    for run in runs_of(study, "ppo"):
        (run / "summary.json").unlink()
    assert unfilmed(load_study(study), LAKE) == []
    assert "No film of" not in write_report(study).read_text()


def test_nothing_is_said_of_films_where_runs_came_without_their_logs(study):
    for run in study.rglob("log.txt"):
        run.unlink()
    assert unfilmed(load_study(study), LAKE) == []

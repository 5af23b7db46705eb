"""The page of a study in W&B: a table and an artifact beside its runs, and no fault that reaches the study."""

from __future__ import annotations

import json
import sys

import pytest

import rl_lab
from page_studies import describe, write_run
from rl_lab.studies import publishing
from rl_lab.studies.publishing import publish
from rl_lab.studies.report import write_report
from wandb_reader import read_offline_runs

DONE = {"env_steps": 300, "train_seconds": 2.0}


@pytest.fixture
def study(tmp_path):
    """A study of two agents whose runs went to W&B."""
    describe(tmp_path / "lake", ["dqn", "ppo"])
    for agent, last in (("dqn", 0.5), ("ppo", 0.75)):
        for seed in range(2):
            run = write_run(tmp_path / "lake", agent, seed, [0.0, last], **DONE)
            config = json.loads((run / "config.json").read_bytes())
            config |= {"wandb": "offline", "wandb_project": "lakes", "group": "lake-FrozenLake-v1"}
            (run / "config.json").write_text(json.dumps(config))
    return tmp_path / "lake"


@pytest.mark.long
def test_tables_verdict_and_page_are_one_run_in_the_group_of_the_studys_runs(study):
    write_report(study)
    assert publish(study, timeout_seconds=300) is None
    (run,) = read_offline_runs(study)
    assert (run.job_type, run.name, run.project, run.group) == (
        "comparison",
        "lake",
        "lakes",
        "lake-FrozenLake-v1",
    )
    assert run.config["agents"] == ["dqn", "ppo"]
    assert "ppo" in run.summary["verdict/FrozenLake-v1"]
    tables = {name for row in run.history for name in row if name.startswith("comparison/")}
    assert tables == {"comparison/results", "comparison/pairs", "comparison/aggregates"}
    names = set(run.artifacts["page"])
    assert {"index.html", "tables/numbers.json", "figures/frozenlake-v1-returns-by-steps.png"} <= names
    assert run.exit_code == 0

    assert publish(study) is None  # the same page isn't sent again
    assert len(read_offline_runs(study)) == 1


def test_a_study_whose_runs_do_not_go_to_wandb_sends_nothing(tmp_path):
    describe(tmp_path, ["dqn"], seeds=1)
    write_run(tmp_path, "dqn", 0, [0.5], **DONE)
    assert publish(tmp_path) is None
    assert not (tmp_path / "wandb").exists()


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("print('mirror: CommError: refused'); raise SystemExit(1)", "CommError: refused"),
        ("raise SystemExit(7)", "the process ended with 7"),
        ("import time; time.sleep(60)", "not done after 0.5 s"),
    ],
)
def test_a_failure_is_one_line_and_no_more(study, monkeypatch, script, cause):
    monkeypatch.setattr(publishing, "command", lambda *_: [sys.executable, "-c", script])
    assert publish(study, timeout_seconds=0.5 if "sleep" in script else 120.0) == cause


def test_what_cannot_go_online_goes_offline(study, monkeypatch):
    for config in study.glob("runs/*/*/*/config.json"):
        config.write_text(config.read_text().replace('"offline"', '"online"'))
    script = "import sys; raise SystemExit(sys.argv[1] == 'online')"
    monkeypatch.setattr(publishing, "command", lambda _, mode: [sys.executable, "-c", script, mode])
    assert publish(study) == "the process ended with 1 (written offline instead)"


def test_a_folder_that_cannot_be_written_is_said(study):
    (study / "wandb").write_text("in the way")
    assert publish(study) == "File exists"


def test_the_study_says_it_and_goes_on(tmp_path, monkeypatch, capsys, no_figures, runs_in_this_process):
    monkeypatch.setattr("rl_lab.studies.compare.publish", lambda _: "CommError: refused")
    fields = {
        "wandb": "disabled",
        "video_episodes": 0,
        "pictures": False,
        "eval_episodes": 1,
        "total_steps": 50,
    }
    found = rl_lab.compare("FrozenLake-v1", "random", seeds=1, out=tmp_path, progress=True, **fields)
    assert found.page.exists()
    assert f"W&B: the page of {tmp_path} was not sent: CommError: refused" in capsys.readouterr().out

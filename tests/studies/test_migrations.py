"""Studies that an older version began go on under the names that environments have now."""

from __future__ import annotations

import json

import pytest

from rl_lab.storage.errors import FormatTooNew
from rl_lab.storage.formats import FORMAT
from rl_lab.studies.migrations import migrate_study
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study
from rl_lab.studies.study import Study, run_study

pytestmark = pytest.mark.usefixtures("runs_in_this_process")

OLD, NEW = "envs:lab/GridWorld-v0", "rl_lab.envs:lab/GridWorld-v0"
FIELDS = {"wandb": "disabled", "video_episodes": 0, "pictures": False, "eval_episodes": 2, "total_steps": 100}


def study(seeds: int) -> Study:
    return Study((NEW,), ("q-learning",), seeds, FIELDS)


@pytest.fixture
def old(tmp_path):
    """A study with one run, as format 1 left it."""
    assert run_study(study(1), tmp_path) == {}
    path = tmp_path / "study.json"
    info = json.loads(path.read_bytes())
    assert info.pop("format") == FORMAT
    path.write_text(json.dumps(info | {"env_ids": [OLD]}))
    folder = (tmp_path / "runs" / "rl_lab.envs_lab_GridWorld-v0").rename(
        tmp_path / "runs" / "envs_lab_GridWorld-v0"
    )
    config = folder / "q-learning" / "seed_0" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_bytes()) | {"format": 1, "env_id": OLD}))
    return tmp_path


def test_an_old_study_goes_on_under_the_new_name(old):
    assert load_study(old).env_ids == (OLD,)  # until then its page shows what it holds
    (summary,) = old.glob("runs/**/summary.json")
    before, lines = summary.read_bytes(), []
    assert run_study(study(2), old, tell=lines.append) == {}
    assert lines[0] == "1 of 2 runs are done already"
    found = sorted(old.glob("runs/**/summary.json"))
    assert [str(path.relative_to(old / "runs").parent) for path in found] == [
        f"rl_lab.envs_lab_GridWorld-v0/q-learning/seed_{seed}" for seed in (0, 1)
    ]
    assert found[0].read_bytes() == before
    info = json.loads((old / "study.json").read_bytes())
    assert (info["format"], info["env_ids"]) == (FORMAT, [NEW])


def test_a_run_that_was_stopped_in_an_old_study_is_resumed(old):
    folder = old / "runs" / "envs_lab_GridWorld-v0" / "q-learning" / "seed_0"
    (folder / "summary.json").unlink()
    rows = (folder / "metrics.jsonl").read_bytes()
    assert run_study(study(1), old) == {}
    folder = old / "runs" / "rl_lab.envs_lab_GridWorld-v0" / "q-learning" / "seed_0"
    assert (folder / "summary.json").is_file()
    assert (folder / "metrics.jsonl").read_bytes().startswith(rows.splitlines()[0])  # it didn't start again


def test_only_the_labs_own_ids_change(tmp_path):
    info = {"env_ids": ["envs:mine/World-v0", OLD, "FrozenLake-v1"]}
    assert migrate_study(info, tmp_path)["env_ids"] == ["envs:mine/World-v0", NEW, "FrozenLake-v1"]


def test_a_newer_study_is_named_and_left_alone(old):
    path = old / "study.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"format": FORMAT + 1}))
    before = path.read_bytes()
    for read in (lambda: run_study(study(1), old), lambda: write_report(old)):
        with pytest.raises(FormatTooNew, match=rf"study\.json has format {FORMAT + 1}"):
            read()
    assert path.read_bytes() == before

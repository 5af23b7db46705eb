"""The seeds of a study may begin elsewhere than at 0, so that they aren't those that a preset was chosen on."""

import json

import pytest

from rl_lab.studies.compare import compare_study
from rl_lab.studies.extends import extends
from rl_lab.studies.results import load_study
from rl_lab.studies.study import Study, tasks_of
from rl_lab.types import UsageError

pytestmark = pytest.mark.usefixtures("no_figures", "runs_in_this_process")

TINY = {"total_steps": 50, "eval_episodes": 1, "video_episodes": 0, "pictures": False, "wandb": "disabled"}


def study(agents=("random",), **fields):
    return Study(("FrozenLake-v1",), agents, 2, TINY, **fields)


def test_runs_have_the_seeds_from_there_on(tmp_path):
    tasks = tasks_of(study(first_seed=7), tmp_path, lambda line: None)
    assert [task.fields["seed"] for task in tasks] == [7, 8]
    assert [task.folder.name for task in tasks] == ["seed_7", "seed_8"]


def test_a_finished_study_is_read_with_them(tmp_path):
    compare_study(study(first_seed=7), tmp_path, tell=lambda line: None)
    found = load_study(tmp_path)
    assert found.seeds == (7, 8)
    assert [run.seed for run in found.runs["FrozenLake-v1", "random"] if run.done] == [7, 8]
    assert "--first-seed 7" in (tmp_path / "index.html").read_text()
    with pytest.raises(UsageError, match="already holds another study"):
        compare_study(study(), tmp_path, tell=lambda line: None)


def test_a_study_with_another_first_seed_extends_none(tmp_path):
    before = {"env_ids": [], "agents": [], "eval_gamma": None, "seeds": 2, "fields": {}}
    assert extends(before | {"seeds": 3}, before)
    assert not extends(before | {"seeds": 3, "first_seed": 1}, before)
    assert extends(before | {"first_seed": 1}, json.loads(json.dumps(before | {"first_seed": 1})))


def test_one_below_0_is_refused():
    with pytest.raises(UsageError, match="first_seed must be at least 0, got -1"):
        study(first_seed=-1)


@pytest.mark.parametrize(("first", "told"), [(2, True), (4, False)])
def test_seeds_that_the_preset_was_chosen_on_are_told(tmp_path, first, told):
    lines = []
    fields = TINY | {"total_steps": 2000}
    preset = "recommended:MountainCar-v0"
    asked = Study(("MountainCar-v0",), ("dqn",), 2, fields, {}, preset, first_seed=first)
    tasks_of(asked, tmp_path, lines.append)
    assert any("was chosen on seeds 2, 3, which" in line for line in lines) == told

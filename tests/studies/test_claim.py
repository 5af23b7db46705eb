"""What a study leaves in its folder when it is refused, and which study counts as the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rl_lab.runs.scrubbing import REMOVED
from rl_lab.studies import study as study_module
from rl_lab.studies.migrations import present_folder
from rl_lab.studies.study import run_study
from rl_lab.types import UsageError
from studies_made import QUIET, small_study

GRID = ("rl_lab.envs:lab/GridWorld-v0",)
OLD_GRID = "envs:lab/GridWorld-v0"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr(study_module, "run_task", lambda task, stop, report: None)
    monkeypatch.setattr(study_module.Task, "told", lambda task: "not run")


def claim(out: Path, **changes: Any) -> None:
    run_study(small_study(seeds=1, agents=("random",), **changes), out, tell=lambda line: None)


def rewrite(out: Path, **changes: Any) -> None:
    path = out / "study.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


def fields_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "study.json").read_bytes())["fields"]["random"]


class TestARefusedReading:
    @pytest.fixture
    def refusing(self, monkeypatch):
        """Where the runs lay that were looked at; every reading is refused."""
        seen: list[Path] = []

        def refuse(runs):
            seen.extend(folder for _, _, folder in runs)
            raise UsageError("reads images otherwise")

        monkeypatch.setattr(study_module, "require_same_readings", refuse)
        return seen

    def test_leaves_the_study_as_it_was(self, tmp_path, refusing, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(study_module, "require_same_readings", lambda runs: list(runs))
            claim(tmp_path)
        before = (tmp_path / "study.json").read_bytes()
        with pytest.raises(UsageError, match="reads images otherwise"):
            run_study(small_study(seeds=2, agents=("random",)), tmp_path)
        assert (tmp_path / "study.json").read_bytes() == before

    def test_makes_no_folder(self, tmp_path, refusing):
        with pytest.raises(UsageError, match="reads images otherwise"):
            claim(tmp_path / "new")
        assert not (tmp_path / "new").exists()

    def test_looks_at_runs_where_an_older_version_left_them(self, tmp_path, refusing, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(study_module, "require_same_readings", lambda runs: list(runs))
            claim(tmp_path, env_ids=GRID)
        rewrite(tmp_path, format=1, env_ids=[OLD_GRID])
        old = tmp_path / "runs" / "envs_lab_GridWorld-v0"
        old.mkdir(parents=True)
        before = (tmp_path / "study.json").read_bytes()
        with pytest.raises(UsageError, match="reads images otherwise"):
            claim(tmp_path, env_ids=GRID)
        assert refusing == [old / "random" / "seed_0"]
        assert old.is_dir()
        assert (tmp_path / "study.json").read_bytes() == before


def test_runs_of_a_study_of_today_lie_where_they_lie(tmp_path):
    folder = tmp_path / "runs" / "FrozenLake-v1" / "random" / "seed_0"
    assert present_folder(folder, tmp_path, None) == folder
    info = {"env_ids": ["FrozenLake-v1", OLD_GRID]}  # there is no folder of the latter
    assert present_folder(folder, tmp_path, info) == folder


class TestSecrets:
    KWARGS = {"token": "hush-hush-hush", "note": "see correct-horse, password=hush"}  # noqa: RUF012
    SECRET = QUIET | {"env_kwargs": KWARGS}

    @pytest.fixture(autouse=True)
    def any_arguments(self, monkeypatch):
        """FrozenLake takes no token."""
        monkeypatch.setattr(study_module, "shared_terms", lambda *_, **__: {})

    @pytest.mark.parametrize("aged", ["no", "with a discount", "without one"])
    def test_that_an_older_version_stored_make_no_other_study(self, tmp_path, aged):
        claim(tmp_path, fields=self.SECRET)
        if aged != "no":  # it knew secret variables, but not yet what follows "password="
            kwargs = self.KWARGS | {"note": f"see {REMOVED}, password=hush"}
            rewrite(tmp_path, format=2, fields={"random": fields_of(tmp_path) | {"env_kwargs": kwargs}})
        if aged == "without one":
            path = tmp_path / "study.json"
            body = json.loads(path.read_bytes())
            del body["eval_gamma"]
            path.write_text(json.dumps(body))
        claim(tmp_path, fields=self.SECRET)
        expected = {"token": REMOVED, "note": f"see correct-horse, password={REMOVED}"}
        assert fields_of(tmp_path)["env_kwargs"] == expected

    def test_that_only_one_shell_knew_make_no_other_study(self, tmp_path, monkeypatch):
        given = QUIET | {"env_kwargs": {"note": "see correct-horse now", "maps": ["correct-horse", "a"]}}
        with monkeypatch.context() as patch:
            patch.setenv("MY_TOKEN", "correct-horse")
            claim(tmp_path, fields=given)
        assert fields_of(tmp_path)["env_kwargs"] == {"note": f"see {REMOVED} now", "maps": [REMOVED, "a"]}
        claim(tmp_path, fields=given)
        monkeypatch.setenv("MY_TOKEN", "correct-horse")
        claim(tmp_path, fields=given)  # in which what was stored in plain text is removed

    @pytest.mark.parametrize(
        "env_kwargs",
        [
            {"note": "see correct-horse then"},
            {"note": "see correct-horse now", "map": "8x8"},
            {"note": 3},
            {"note": ["see correct-horse now"]},
        ],
    )
    def test_hide_no_other_difference(self, tmp_path, monkeypatch, env_kwargs):
        monkeypatch.setenv("MY_TOKEN", "correct-horse")
        claim(tmp_path, fields=QUIET | {"env_kwargs": {"note": "see correct-horse now"}})
        with pytest.raises(UsageError, match="already holds another study"):
            claim(tmp_path, fields=QUIET | {"env_kwargs": env_kwargs})


@pytest.mark.parametrize("name", ["config.json", "checkpoints"])
def test_a_new_study_leaves_a_runs_folder_alone_and_one_that_is_there_goes_on(tmp_path, name):
    claim(tmp_path / "study")
    for folder in (tmp_path / "study", tmp_path / "run"):
        (folder / name).mkdir(parents=True)
    claim(tmp_path / "study")
    with pytest.raises(UsageError, match=rf"/run' already holds a run \({name}; allowed: an empty folder\)"):
        claim(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]

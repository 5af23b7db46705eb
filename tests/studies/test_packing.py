"""What is packed of a study is enough to go on with it in another place."""

import importlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from rl_lab.runs.rows import parse_row
from rl_lab.studies.decision import Plan
from rl_lab.studies.digest import digest_of
from rl_lab.studies.packing import pack_runs
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.results import RETURN, load_study
from rl_lab.studies.study import run_study
from rl_lab.types import UsageError
from studies_made import small_study, summaries

SCRIPTS = Path(__file__).parents[2] / "scripts"
RUN = "runs/FrozenLake-v1/q-learning/seed_0"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("there") / "study"
    assert run_study(small_study(), out, tell=[].append) == {}
    return out


def unpack(packed, folder):
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_a_study_is_continued_elsewhere_with_the_runs_that_it_lacks(finished, tmp_path):
    missing = Path("runs/FrozenLake-v1/random/seed_1")
    here = shutil.copytree(finished, tmp_path / "here")
    (here / missing / "summary.json").unlink()
    there = unpack(pack_runs(here), tmp_path / "there")
    assert not (there / missing).exists()  # a run that didn't finish isn't packed
    lines = []
    assert run_study(small_study(), there, tell=lines.append) == {}
    assert lines[0] == "3 of 4 runs are done already"
    assert len(lines) == 2
    assert summaries(there).keys() == {there / folder.relative_to(finished) for folder in summaries(finished)}


def test_what_was_decided_is_packed_with_all_seeds_that_it_took(tmp_path):
    plan = Plan(max_seeds=6, group_size=2)
    here = tmp_path / "here"
    run_study(small_study(agents=("random", "td-prediction"), until_decided=plan), here, tell=[].append)
    assert json.loads((here / "decision.json").read_bytes())
    packed = pack_runs(here)
    there = unpack(packed, tmp_path / "there")
    assert (there / "decision.json").read_bytes() == (here / "decision.json").read_bytes()
    seeds = [[len(runs) for runs in load_study(folder).runs.values()] for folder in (here, there)]
    assert seeds == [[6, 6], [6, 6]]
    assert pack_runs(there) == packed


def test_tables_of_packed_runs_are_those_of_the_study(finished, tmp_path):
    there = unpack(pack_runs(finished), tmp_path / "study")
    tables = [digest_of(contents_of(load_study(folder))) for folder in (finished, there)]
    pages = [
        table.pop("README.md").decode().split("## Run it again")[0] for table in tables
    ]  # there are paths below
    assert pages[0] == pages[1]
    assert tables[0] == tables[1]


def test_only_what_comparing_needs_is_packed_and_equal_runs_give_equal_bytes(finished, tmp_path):
    packed = pack_runs(finished)
    there = unpack(packed, tmp_path / "study")
    files = {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()}
    kept = ("config.json", "summary.json", "metrics.jsonl")
    folders = [
        f"runs/FrozenLake-v1/{agent}/seed_{seed}" for agent in ("q-learning", "random") for seed in (0, 1)
    ]
    assert files == {"study.json"} | {f"{folder}/{name}" for folder in folders for name in kept}
    rows = [parse_row(line) for line in (there / RUN / "metrics.jsonl").read_text().splitlines()]
    assert rows
    assert all(RETURN in row for row in rows)
    assert pack_runs(there) == packed


def test_the_script_packs_beside_the_tables(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("study_results")
    assert script.study_results([str(finished), "--out", str(tmp_path / "kept"), "--runs"]) == 0
    assert (tmp_path / "kept" / "runs.tar.xz").read_bytes() == pack_runs(finished)
    assert "runs.tar.xz: " in capsys.readouterr().out
    with pytest.raises(UsageError, match="is not a study directory"):
        pack_runs(tmp_path)

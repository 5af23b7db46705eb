"""What is packed of a study is enough to go on with it in another place."""

import importlib
import io
import tarfile
from pathlib import Path

import pytest

from rl_lab.runs.rows import parse_row
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


def test_a_study_goes_on_elsewhere_with_the_runs_that_it_lacks(finished, tmp_path):
    packed = unpack(pack_runs(finished), tmp_path / "here")
    for lost in (finished, packed):
        (lost / "runs/FrozenLake-v1/random/seed_1/summary.json").unlink()
    there = unpack(pack_runs(finished), tmp_path / "study")  # a run that didn't finish isn't packed
    assert not (there / "runs/FrozenLake-v1/random/seed_1").exists()
    lines = []
    assert run_study(small_study(), there, tell=lines.append) == {}
    assert lines[0] == "3 of 4 runs are done already"
    assert len(lines) == 2
    run_study(small_study(), finished, tell=lines.append)
    assert summaries(there).keys() == {there / f.relative_to(finished) for f in summaries(finished)}


def test_tables_of_packed_runs_are_those_of_the_study(finished, tmp_path):
    there = unpack(pack_runs(finished), tmp_path / "study")
    tables = [digest_of(contents_of(load_study(folder))) for folder in (finished, there)]
    assert tables[0].pop("README.md").splitlines()[:20] == tables[1].pop("README.md").splitlines()[:20]
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

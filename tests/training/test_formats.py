"""Runs of every format that was ever written still load, and resume to the hashes recorded with them."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rl_lab
from arithmetic import arithmetic_sha256, products_sha256
from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.runs.description import config_hash, read_description, upgrade_description
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import COLUMNS
from rl_lab.storage import formats
from rl_lab.storage.checkpoint import Checkpoints, read_manifest
from rl_lab.storage.errors import FormatTooNew
from rl_lab.training.loading import read_weights
from runs import differences, learn
from told import episode_rows, finished_file, told

FIXTURES = Path(__file__).parents[1] / "fixtures"
EARLY, LATE, SECOND = FIXTURES / "format_1", FIXTURES / "format_1" / "late", FIXTURES / "format_2"
BYTES, BOUNDS = (
    FIXTURES / "format_2_bytes",
    FIXTURES / "format_2_bounds",
)  # images of format 2, read in two ways
KEPT = {  # the files of each folder as one hash: made again with today's code they would prove nothing
    EARLY: "4c7bab7a6648c689fb296e4f0d41ebe94bc7d5921b843b92c9c5cc870535c2e6",
    LATE: "7ce8788aba2ed9db054fa83b6c7f4c179780d4a8feb6e25ec4556ccb48bdda98",
    SECOND: "f7e9dbd30f81b3b2073e7aeebce9c729fa19ea7ec4cc85d6b3a70ffc674ce156",
    BYTES: "dae59aa2580b9dea6fe1eef7c59d6327c50bc735563e1a8d7d4e0be162e8ee72",
    BOUNDS: "6cd0ccf39cfa09ba9eb573739890e185a0113f0e25d620b6e7d0504a32c519b8",
}


PRODUCTS = "2410f66512d4911d376b13a3674055445eb99c051ee160702ec8c8d5153d1183"
"""Of the machine that made them: with OpenBLAS's kernels for SkylakeX, which OPENBLAS_CORETYPE can choose."""


def expected_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_bytes())


# name, folder of the run, the folder its relative paths start from
RUNS = [(name, EARLY / Path(name).name if "/" in name else LATE / name, LATE) for name in expected_of(LATE)]
RUNS += [(name, start / name, start) for start in (SECOND, BYTES, BOUNDS) for name in expected_of(start)]
IDS = [f"{start.name}-{name}" for name, _, start in RUNS]


@pytest.fixture
def fixture(request, tmp_path, monkeypatch):
    """A copy of a kept run, what is expected of it, the folder that it starts from, and its name."""
    name, folder, start = request.param
    monkeypatch.chdir(start)  # config.json holds relative paths
    monkeypatch.syspath_prepend(str(start))  # the environments that a fixture brings
    return Path(shutil.copytree(folder, tmp_path / "run")), expected_of(start)[name], start, name


@pytest.mark.parametrize("fixture", RUNS, ids=IDS, indirect=True)
class TestKeptRuns:
    def test_hold_what_was_saved(self, fixture):
        folder, expected, *_ = fixture
        assert fingerprint(folder) == expected["stopped"]
        assert rl_lab.load_policy(folder).act is not None

    def test_resume_to_the_hashes_recorded_then(self, fixture):
        folder, expected, start, name = fixture
        before = read_description(folder)
        assert rl_lab.resume(folder).summary is not None
        require_current_format(folder)
        assert read_description(folder) == before
        assert "truncated_at_resume" not in (folder / "metrics.jsonl").read_text()
        require_same_end(folder, expected["finished"]["summary"], start, name)
        if (arithmetic_sha256(), products_sha256()) == (
            (start / "arithmetic.txt").read_text().strip(),
            PRODUCTS,
        ):
            assert told(folder) == expected["finished"]


AS_BEFORE = [run for run in RUNS if run[2] in (LATE, SECOND, BYTES) and "/" not in run[0]]


@pytest.mark.parametrize(
    "fixture", AS_BEFORE, ids=[f"{start.name}-{name}" for name, _, start in AS_BEFORE], indirect=True
)
def test_what_later_fields_stand_for_in_an_old_run_leaves_its_hash(fixture):
    described = read_description(fixture[0])
    assert config_hash(described) == described.config_sha256


IMAGES = [(name, start / name, start) for start in (BYTES, BOUNDS) for name in expected_of(start)]


@pytest.mark.parametrize(
    "fixture", IMAGES, ids=[f"{start.name}-{name}" for name, _, start in IMAGES], indirect=True
)
class TestKeptImages:
    def test_are_valued_as_they_were(self, fixture):
        folder, expected, *_ = fixture
        seen = importlib.import_module("format_2_envs").SEEN
        obs = seen[read_description(folder).config.env_id.partition(":")[2]]
        policy = rl_lab.load_policy(folder)
        found = policy.inspect(obs, policy.initial_state(4), np.ones(4, bool), None)
        assert expected["seen"]
        for name, values in expected["seen"].items():
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)

    def test_say_in_config_json_how_they_are_read(self, fixture):
        folder, _, start, name = fixture
        upgrade_description(folder)
        fields = json.loads((folder / "config.json").read_bytes())["fields"]
        if start == BYTES:
            assert (fields["channels"], fields["image_scale"]) == ("smaller", "byte")
            assert fields["one_hot_most"] > 10**12
        else:
            assert fields["channels"] == ("last" if name == "dqn-planes" else "auto")
            assert fields.keys().isdisjoint({"image_scale", "one_hot_most"})


def require_same_end(folder: Path, summary: dict[str, Any], start: Path, name: str) -> None:
    """The numbers are those recorded, up to the last bits, in which torch differs between processors."""
    with np.load(finished_file(start, name), allow_pickle=False) as recorded:
        weights = read_weights(folder)
        assert {f"weights/{key}" for key in weights} | {"episodes"} == set(recorded)
        for key, value in weights.items():
            np.testing.assert_allclose(value, recorded[f"weights/{key}"], rtol=1e-4, atol=1e-5, err_msg=key)
        np.testing.assert_allclose(episode_rows(folder), recorded["episodes"], rtol=1e-4, atol=1e-5)
        counts = [place for place, column in enumerate(COLUMNS.split(",")) if column != "return"]
        np.testing.assert_array_equal(episode_rows(folder)[:, counts], recorded["episodes"][:, counts])
    found = json.loads((folder / "summary.json").read_bytes())
    for key in ("env_steps", "gradient_steps", "episodes", "config_sha256"):
        assert found[key] == summary[key]


def require_current_format(folder: Path) -> None:
    newest = Checkpoints(folder / "checkpoints").manifests()[-1]
    for path in (folder / "config.json", newest):
        assert json.loads(path.read_bytes())["format"] == formats.FORMAT


def files_of(folder: Path) -> list[Path]:
    """The files of a folder of fixtures, without those of a folder inside it that is kept by itself."""
    inner = [other for other in KEPT if other != folder and other.is_relative_to(folder)]
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in files if not any(path.is_relative_to(other) for other in inner)]


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_fixtures_are_those_that_were_kept(folder):
    found = hashlib.sha256()
    for path in files_of(folder):
        if path.name != ".lock":
            found.update(path.relative_to(FIXTURES).as_posix().encode() + path.read_bytes())
    assert found.hexdigest() == KEPT[folder]


class TestOldEnvironmentIds:
    FIELDS = {"total_steps": 300, "env_kwargs": {"map": "corridor"}}  # noqa: RUF012

    @pytest.mark.parametrize("module", ["envs", "envs.gridworld"])
    def test_name_the_modules_beneath_rl_lab(self, tmp_path, monkeypatch, module):
        new = f"rl_lab.{module}:lab/GridWorld-v0"
        learn(tmp_path / "whole", "q-learning", new, **self.FIELDS)
        with monkeypatch.context() as patch:
            patch.setattr(formats, "FORMAT", 1)
            learn(tmp_path / "cut", "q-learning", new, stop_at=151, **self.FIELDS)
        path = tmp_path / "cut" / "config.json"
        body = json.loads(path.read_bytes())
        path.write_text(json.dumps(body | {"env_id": f"{module}:lab/GridWorld-v0"}))
        assert rl_lab.load_policy(tmp_path / "cut").act is not None
        summary = rl_lab.resume(tmp_path / "cut").summary
        assert summary["env_id"] == json.loads(path.read_bytes())["env_id"] == new
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=300, stop_at=151)
    return folder


def of_a_newer_format(folder: Path, part: str) -> None:
    """Let config.json, or every checkpoint, be of a format that doesn't exist yet."""
    newer = {"format": formats.FORMAT + 1}
    if part == "config.json":
        path = folder / part
        path.write_text(json.dumps(json.loads(path.read_bytes()) | newer))
        return
    for path in Checkpoints(folder / "checkpoints").manifests():
        data = json.dumps(read_manifest(path) | newer).encode()
        path.unlink()
        name = f"{path.name.split('-')[0]}-{hashlib.sha256(data).hexdigest()[:16]}.json"
        (path.parent / name).write_bytes(data)


@pytest.mark.parametrize("part", ["config.json", "checkpoints"])
class TestNewerFormats:
    @pytest.mark.parametrize("read", [rl_lab.resume, rl_lab.load_policy])
    def test_are_named(self, stopped, tmp_path, part, read):
        folder = shutil.copytree(stopped, tmp_path / "run")
        of_a_newer_format(folder, part)
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        with pytest.raises(FormatTooNew, match=r"has format 4 \(allowed: up to 3"):
            read(folder)
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    def test_are_a_line_and_exit_code_2_on_the_command_line(self, stopped, tmp_path, capsys, part):
        folder = shutil.copytree(stopped, tmp_path / "run")
        of_a_newer_format(folder, part)
        with pytest.raises(SystemExit) as ended:
            main(train, ["--resume", "--run-dir", str(folder)])
        said = capsys.readouterr().err
        assert ended.value.code == 2
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert "has format 4" in said


def test_config_file_of_a_newer_format_is_named(stopped, tmp_path):
    folder = shutil.copytree(stopped, tmp_path / "run")
    of_a_newer_format(folder, "config.json")
    with pytest.raises(FormatTooNew, match="has format 4"):
        train(["--config", str(folder / "config.json"), "--run-dir", str(tmp_path / "again")])

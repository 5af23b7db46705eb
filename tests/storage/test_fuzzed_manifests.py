"""Manifests and structures changed in one place, with hashes that fit: corrupt or too new, and nothing else."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from fuzz import fuzzed, mutations, require_one_line
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.storage.checkpoint import Checkpoints, read_manifest
from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.files import sha256
from rl_lab.storage.state_trees import Ring

ROWS = np.arange(12.0).reshape(6, 2)
MEMBERS = {
    "weights": {"w": np.ones((2, 3)), "layers": (np.zeros(2), [1, "a", None, 0.5])},
    "agent": {"replay": {"obs": Ring(ROWS, 8)}, "steps": 8, 3: "by a number"},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    Checkpoints(folder).save(8, MEMBERS, {"score": 2.5})
    return folder


def put(folder: Path, text: str, env_steps: int = 8) -> Path:
    """Write a manifest whose name holds its hash."""
    for old in folder.glob("*.json"):
        old.unlink()
    data = text.encode(errors="surrogatepass")
    path = folder / f"{env_steps:012d}-{sha256(data)[:16]}.json"
    path.write_bytes(data)
    return path


def look(checkpoints: Checkpoints) -> None:
    """Ask for everything that can be read; a tree that loads has its rings filled in too."""
    checkpoints.files()
    scores = checkpoints.best_score()
    assert scores is None or isinstance(scores, int | float)
    for best in (False, True):
        env_steps, members = checkpoints.load(best=best)
        assert isinstance(env_steps, int)
        assert not isinstance(env_steps, bool)
        fill(members)
        checkpoints.load(only=("weights",), best=best)


def fill(tree) -> None:
    if hasattr(tree, "copy_into"):
        tree.copy_into(np.zeros((6, 2)))
    elif isinstance(tree, dict):
        for part in tree.values():
            fill(part)


def require_an_error_of_ours_at_most(folder: Path, path: Path) -> None:
    checkpoints = Checkpoints(folder, keep_best=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "passed over"
        for call in (lambda: look(checkpoints), lambda: read_manifest(path)):
            try:
                call()
            except CheckpointError as error:
                require_one_line(error)
        checkpoints.save(9, {"weights": {"w": np.ones(1)}})  # beside it; old ones are swept
        assert Checkpoints(folder).load()[0] == 9


def manifest_of(folder: Path) -> dict:
    return json.loads(next(folder.glob("*.json")).read_bytes())


@pytest.fixture(scope="module")
def body(stored):
    return manifest_of(stored)


def in_a_copy(stored: Path, base: Path) -> Path:
    folder = base / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    return shutil.copytree(stored, folder)


def test_a_changed_manifest(stored, body, tmp_path):
    @given(mutations(body))
    @fuzzed(120)
    def check(changed):
        folder = in_a_copy(stored, tmp_path)
        require_an_error_of_ours_at_most(folder, put(folder, json.dumps(changed)))

    check()


@pytest.mark.parametrize("member", ["weights", "agent"])
def test_a_changed_structure(stored, body, tmp_path, member):
    segment = body["members"][member]["structure"]
    structure = json.loads((stored / "segments" / segment["file"]).read_bytes())

    @given(mutations(structure))
    @fuzzed(60)
    def check(changed):
        folder = in_a_copy(stored, tmp_path)
        data = json.dumps(changed).encode()
        told = {"file": f"{sha256(data)}.json", "sha256": sha256(data), "bytes": len(data)}
        (folder / "segments" / told["file"]).write_bytes(data)
        new = json.loads(json.dumps(body))
        new["members"][member]["structure"] = told
        require_an_error_of_ours_at_most(folder, put(folder, json.dumps(new)))

    check()


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "3", '"x"', "{", "NaN", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\ufeff{}",
        '{"format": 2}',
        '{"format": 2, "format": 99, "env_steps": 1, "info": {}, "members": {}}',
        '{"format": NaN, "env_steps": 1, "info": {}, "members": {}}',
        '{"format": 2, "env_steps": 1, "info": {"score": NaN}, "members": {}}',
        '{"format": 2, "env_steps": 1, "info": {}, "members": {}, "members": 3}',
    ],
    ids=range(16),
)  # fmt: skip
def test_a_text_that_is_no_manifest(stored, tmp_path, text):
    folder = in_a_copy(stored, tmp_path)
    require_an_error_of_ours_at_most(folder, put(folder, text))


@given(st.binary(max_size=40))
@fuzzed(50)
def test_bytes_that_are_no_manifest(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / f"{8:012d}-{sha256(data)[:16]}.json"
    path.write_bytes(data)
    require_an_error_of_ours_at_most(folder, path)

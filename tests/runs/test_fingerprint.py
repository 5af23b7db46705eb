"""Fingerprints: equal for equal runs, whatever the time they took, and different for the least difference."""

from __future__ import annotations

import json

import pytest

from rl_lab.runs.fingerprint import fingerprint, rows_without_times
from rl_lab.storage.errors import CheckpointMissing
from runs import differences, learn


@pytest.fixture
def folder(tmp_path):
    learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=300)
    return tmp_path / "run"


def rewrite_row(folder, **changes):
    path = folder / "metrics.jsonl"
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps(json.loads(first) | changes) + "\n" + "".join(rest))


def test_times_are_left_out(folder):
    before = fingerprint(folder)
    rewrite_row(folder, wall_seconds=99.0, act_seconds=9.0)
    summary = json.loads((folder / "summary.json").read_bytes())
    (folder / "summary.json").write_text(json.dumps(summary | {"wall_seconds": 99.0, "peak_rss_mb": 1}))
    assert fingerprint(folder) == before
    assert not any(name.endswith("_seconds") for row in rows_without_times(folder) for name in row)


def test_each_part_is_seen(folder):
    before = fingerprint(folder)
    rewrite_row(folder, env_steps=1)
    with (folder / "actions" / "actions.bin").open("ab") as file:
        file.write(b"0")
    (folder / "summary.json").write_text(
        json.dumps(json.loads((folder / "summary.json").read_bytes()) | {"episodes": 0})
    )
    assert differences(before, fingerprint(folder)) == {"metrics", "actions/actions.bin", "summary"}
    (folder / "summary.json").unlink()
    assert "summary" not in fingerprint(folder)


def test_other_seeds_differ_and_equal_ones_do_not(folder, tmp_path):
    learn(tmp_path / "same", "q-learning", "FrozenLake-v1", total_steps=300)
    learn(tmp_path / "other", "q-learning", "FrozenLake-v1", total_steps=300, seed=1)
    assert differences(fingerprint(folder), fingerprint(tmp_path / "same")) == set()
    assert {"streams", "episodes.csv"} <= differences(fingerprint(folder), fingerprint(tmp_path / "other"))


def test_a_replay_that_nothing_was_written_into_counts_as_such(tmp_path):
    learn(tmp_path / "run", "clone", "FrozenLake-v1", total_steps=60, oracle=True, held_out=0.0)
    assert len(fingerprint(tmp_path / "run")) > 4


def test_without_a_checkpoint_there_is_none(tmp_path):
    with pytest.raises(CheckpointMissing):
        fingerprint(tmp_path)

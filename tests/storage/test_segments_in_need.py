"""Writing ahead where much is new at once, or the file system refuses: it costs little memory and no run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rl_lab.storage import segments
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.state_trees import Ring

ROW = 16  # bytes


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """10 rows are enough to be written ahead, 40 the most, in segments of 5."""
    monkeypatch.setattr(segments, "AHEAD_BYTES", 10 * ROW)
    monkeypatch.setattr(segments, "LEAST_BYTES", 1)
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 5 * ROW)


@pytest.fixture
def array():
    return np.arange(400).reshape(200, 2)


def tree(array, written: int):
    return {"m": {"ring": Ring(array, written)}}


def rows_on_disk(folder: Path) -> int:
    return sum(len(np.load(path)) for path in folder.rglob("*.npy"))


def test_a_replay_that_is_new_as_a_whole_is_copied_in_parts(tmp_path, array):
    """One that was loaded in an older format, say; copied at once it would take its memory twice."""
    store = Checkpoints(tmp_path)
    for rows in (40, 80, 120):
        assert store.write_ahead(200, tree(array, 200)) == 10  # when as much as usual is new again
        store.close()
        assert rows_on_disk(tmp_path) == rows
    store.save(1, tree(array, 200))
    found = np.zeros_like(array)
    Checkpoints(tmp_path).load()[1]["m"]["ring"].copy_into(found)
    assert (found == array).all()
    assert rows_on_disk(tmp_path) == 200


def test_after_a_refusal_everything_waits_for_the_checkpoint(tmp_path, array, monkeypatch):
    store, tried = Checkpoints(tmp_path), []

    def refuse(path, *data):
        tried.append(path)
        raise NotWritten(f"{path} could not be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "write_atomically", refuse)
        for written in (15, 30, 45):
            store.write_ahead(written, tree(array, written))
            store.close()
        assert len(tried) == 1
    store.save(1, tree(array, 45))
    assert rows_on_disk(tmp_path) == 45
    store.write_ahead(60, tree(array, 60))
    store.close()
    assert rows_on_disk(tmp_path) == 60


def test_what_cant_be_removed_is_left_to_the_checkpoint(tmp_path, monkeypatch):
    ring, store = np.zeros((10, 2), np.int64), Checkpoints(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_remove_segments", refuse_to_remove)
        for written in (10, 20):
            ring[:] = written
            store.write_ahead(written, tree(ring, written))
            store.close()
    store.save(1, tree(ring, 20))
    assert rows_on_disk(tmp_path) == 5  # ten equal rows in two segments, which are one file


def refuse_to_remove(names):
    raise OSError(30, "Read-only file system")

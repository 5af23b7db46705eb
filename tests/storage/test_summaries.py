"""What a run remembers of its checkpoints: it reads a manifest once, and again only if the file has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from rl_lab.storage import checkpoint
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.storage.state_trees import Ring


def save(store: Checkpoints, step: int, score: float | None = None) -> Path:
    array = np.arange(step, step + 4)
    return store.save(
        step, {"replay": {"obs": Ring(array, 4 * step)}}, {} if score is None else {"score": score}
    )


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"!}")


@pytest.fixture
def reads(monkeypatch) -> list[Path]:
    """The manifests that are read, in order."""
    found: list[Path] = []
    read = checkpoint.read_manifest
    monkeypatch.setattr(checkpoint, "read_manifest", lambda path: found.append(path) or read(path))
    return found


def test_saving_again_and_again_reads_no_manifest(tmp_path, reads):
    store = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    for step in range(1, 7):
        save(store, step, score=-step)
    assert store.steps() == [1, 5, 6]  # the best one and the newest two
    assert reads == []


def test_a_new_process_reads_each_manifest_once(tmp_path, reads):
    first = Checkpoints(tmp_path, keep_last=3)
    paths = [save(first, step, score=step) for step in (1, 2, 3)]
    second = Checkpoints(tmp_path, keep_last=3)
    assert second.best() == paths[::-1]
    assert second.best() == paths[::-1]
    assert sorted(reads) == sorted(paths)


def test_a_manifest_damaged_since_it_was_saved_is_not_the_best(tmp_path):
    store = Checkpoints(tmp_path, keep_last=1, keep_best=1)
    best = save(store, 1, score=9)
    save(store, 2, score=5)
    damage(best)
    assert store.steps() == [1, 2]
    assert [path.name[:12] for path in store.best()] == ["000000000002"]
    save(store, 3, score=1)
    assert store.steps() == [2, 3]  # the damaged one has made room for the best of those that are whole


def test_a_manifest_replaced_within_one_tick_of_the_clock_is_read_again(tmp_path):
    store = Checkpoints(tmp_path, keep_last=2)
    path = save(store, 1, score=9)
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(b"x" * before.st_size)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert store.best() == []


def test_segments_of_a_summarised_checkpoint_stay_until_it_leaves(tmp_path):
    store = Checkpoints(tmp_path, keep_last=2)
    for step in range(1, 5):
        save(store, step)
        listed = {
            segment["file"]
            for path in store.manifests()
            for segment in checkpoint._segments_of(checkpoint.read_manifest(path))
        }
        assert {path.name for path in (tmp_path / "segments").iterdir()} == listed
        assert store.files() == listed | {path.name for path in store.manifests()}


def test_a_folder_among_the_segments_is_no_segment(tmp_path):
    store = Checkpoints(tmp_path)
    save(store, 1)
    (tmp_path / "segments" / "folder").mkdir()
    save(store, 2)
    assert (tmp_path / "segments" / "folder").is_dir()


def whole(store: Checkpoints, folder: Path) -> list[int]:
    found = []
    for step in store.steps():
        with suppress(CheckpointCorrupt):
            found.append(Checkpoints(folder).load(at_step=step)[0])
    return found


@pytest.mark.filterwarnings("ignore:checkpoint passed over")
def test_a_damaged_checkpoint_takes_no_place_of_a_whole_one(tmp_path):
    """A resumed run saves at earlier steps than the damaged one's, again and again."""
    old = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    save(old, 400, score=1)
    (segment,) = new_segments(tmp_path, lambda: save(old, 900, score=8))
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    store = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    assert store.load()[0] == 400
    save(store, 500, score=5)
    assert whole(store, tmp_path) == [400, 500]
    save(store, 600, score=2)
    save(store, 700, score=3)
    assert whole(store, tmp_path) == [500, 600, 700]  # the best, and the newest two
    assert store.steps() == [500, 600, 700, 900]
    assert store.best_score() == 5
    save(store, 1000, score=1)
    assert store.steps() == [500, 700, 1000]  # now a whole one is newer
    again = Checkpoints(tmp_path, keep_last=2, keep_best=1)
    assert again.load()[0] == 1000
    save(again, 1100, score=1)
    assert whole(again, tmp_path) == again.steps() == [500, 1000, 1100]


def new_segments(folder: Path, write: Callable[[], object]) -> set[Path]:
    """The rows that a save writes."""
    before = set((folder / "segments").iterdir())
    write()
    return {path for path in set((folder / "segments").iterdir()) - before if path.suffix == ".npy"}

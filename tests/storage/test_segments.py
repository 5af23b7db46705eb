"""Rows of rings that are written ahead of their checkpoint: found again, never torn, never left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disks import FULL, PAGE
from rl_lab.storage import segments
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.state_trees import Ring, encode, rings_of
from rl_lab.types import OneLineWarning

ROW = 16  # bytes of a row of a reel's first ring


class Reel:
    """A tree with two rings that take a row each at every step, one of them a view with gaps, and plain copies."""

    def __init__(self, capacity: int):
        self.capacity, self.written = capacity, 0
        self.wide = np.zeros((capacity, 2), np.int64)
        self.pair = np.zeros((capacity, 2, 3), np.uint8)  # [row, environment, ...]

    def roll(self, steps: int) -> None:
        for n in range(self.written, self.written + steps):
            self.wide[n % self.capacity] = (n, -n)
            self.pair[n % self.capacity, 1] = (n % 251, n % 7, 1)
        self.written += steps

    def tree(self) -> dict:
        return {"wide": Ring(self.wide, self.written), "frames": [Ring(self.pair[:, 1], self.written)]}

    def rows(self) -> tuple[int, list, list]:
        return self.written, self.wide.tolist(), self.pair[:, 1].tolist()


def rows_of(tree, capacity: int) -> tuple[int, list, list]:
    """What a loaded tree holds, as `Reel.rows` has it."""
    wide, pair = np.zeros((capacity, 2), np.int64), np.zeros((capacity, 3), np.uint8)
    tree["wide"].copy_into(wide)
    tree["frames"][0].copy_into(pair)
    return tree["wide"].written, wide.tolist(), pair.tolist()


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "segments").iterdir()}


def rows_on_disk(folder: Path) -> list[int]:
    """How many rows each segment of a reel's first ring holds."""
    arrays = [np.load(path, allow_pickle=False) for path in folder.rglob("*.npy")]
    return sorted(len(array) for array in arrays if array.dtype == np.int64)


@pytest.fixture
def small(monkeypatch):
    """Everything is worth writing ahead as soon as 10 rows have gathered."""
    monkeypatch.setattr(segments, "AHEAD_BYTES", 10 * ROW)
    monkeypatch.setattr(segments, "LEAST_BYTES", 1)


@pytest.fixture
def reel():
    return Reel(100)


DEEDS = st.tuples(st.sampled_from(["ahead", "ahead", "save", "die"]), st.integers(0, 9))


class TestAnyOrder:
    @settings(max_examples=40, deadline=None)
    @given(capacity=st.integers(1, 12), deeds=st.lists(DEEDS, min_size=1, max_size=14))
    def test_every_kept_checkpoint_holds_the_rows_of_its_moment(self, tmp_path_factory, capacity, deeds):
        """Also after the process died and came back, with what it had written ahead lying about."""
        folder = tmp_path_factory.mktemp("reel")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments, "AHEAD_BYTES", 3 * ROW)
            patch.setattr(segments, "LEAST_BYTES", 1)
            patch.setattr(segments, "SEGMENT_BYTES", 4 * ROW)
            self.play(folder, capacity, deeds)
        shutil.rmtree(folder)

    def play(self, folder, capacity, deeds):
        store, reel, moments = Checkpoints(folder, keep_last=3), Reel(capacity), {}
        for number, (deed, steps) in enumerate(deeds, 1):
            reel.roll(steps)
            if deed == "ahead":
                assert store.write_ahead(number, {"m": reel.tree()}) >= 1
            elif deed == "save":
                store.save(number, {"m": reel.tree()})
                moments[number] = reel.rows()
            else:
                store.close()  # the kill comes after the writing, and leaves its files
                store, reel = Checkpoints(folder, keep_last=3), Reel(capacity)
                if moments:
                    tree = store.load()[1]["m"]
                    tree["wide"].copy_into(reel.wide)
                    tree["frames"][0].copy_into(reel.pair[:, 1])
                    reel.written = tree["wide"].written
                store.sweep_segments()
                if moments:
                    assert names(folder) == store.files() - {path.name for path in store.manifests()}
        store.close()
        for number in store.steps():
            assert rows_of(Checkpoints(folder).load(at_step=number)[1]["m"], capacity) == moments[number]
        assert store.steps() == sorted(moments)[-3:]


@pytest.mark.usefixtures("small")
class TestAhead:
    def test_a_checkpoint_writes_only_what_is_left(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        for steps in (12, 11, 4):
            reel.roll(steps)
            store.write_ahead(reel.written, {"m": reel.tree()})
        store.close()
        assert rows_on_disk(tmp_path) == [11, 12]  # 4 rows aren't worth it yet
        store.save(1, {"m": reel.tree()})
        assert rows_on_disk(tmp_path) == [4, 11, 12]
        assert rows_of(Checkpoints(tmp_path).load()[1]["m"], 100) == reel.rows()

    def test_nor_does_the_first_one_after_a_resume(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        reel.roll(30)
        store.save(1, {"m": reel.tree()})
        store = Checkpoints(tmp_path)
        store.load()
        reel.roll(12)
        store.write_ahead(reel.written, {"m": reel.tree()})
        reel.roll(3)
        store.save(2, {"m": reel.tree()})
        assert rows_on_disk(tmp_path) == [3, 12, 30]
        assert rows_of(Checkpoints(tmp_path).load()[1]["m"], 100) == reel.rows()

    def test_rows_may_be_overwritten_while_they_are_written(self, tmp_path, monkeypatch):
        reel, store, go = Reel(20), Checkpoints(tmp_path), threading.Event()
        original = segments.write_atomically

        def late(*args):
            assert go.wait(60)
            original(*args)

        monkeypatch.setattr(segments, "write_atomically", late)
        reel.roll(15)
        store.write_ahead(reel.written, {"m": reel.tree()})
        reel.roll(10)  # five of the fifteen are gone before the first byte is on the disk
        go.set()
        store.save(1, {"m": reel.tree()})
        assert rows_of(Checkpoints(tmp_path).load()[1]["m"], 20) == reel.rows()
        assert rows_on_disk(tmp_path) == [5, 5, 15]  # a segment ends at the array's end

    def test_a_checkpoint_waits_for_what_is_being_written(self, tmp_path, reel, monkeypatch):
        store, go, original = Checkpoints(tmp_path), threading.Event(), segments.write_atomically
        main = threading.get_ident()

        def late(*args):
            assert threading.get_ident() == main or go.wait(60)
            original(*args)

        monkeypatch.setattr(segments, "write_atomically", late)
        reel.roll(15)
        store.write_ahead(reel.written, {"m": reel.tree()})
        timer = threading.Timer(0.05, go.set)
        timer.start()
        store.save(1, {"m": reel.tree()})
        timer.join()
        assert rows_on_disk(tmp_path) == [15]

    def test_what_is_overwritten_before_a_checkpoint_leaves_the_disk(self, tmp_path):
        reel, store = Reel(40), Checkpoints(tmp_path, keep_last=1)
        reel.roll(40)
        store.save(1, {"m": reel.tree()})
        kept = names(tmp_path)
        for _ in range(30):
            reel.roll(10)
            store.write_ahead(reel.written, {"m": reel.tree()})
            store.close()
            # the checkpoint's, and those of the ring with one stretch
            assert sum(rows_on_disk(tmp_path)) <= 40 + 50
        assert kept <= names(tmp_path)
        assert Checkpoints(tmp_path).load()[0] == 1
        store.save(2, {"m": reel.tree()})
        assert rows_on_disk(tmp_path) == [10, 10, 10, 10]
        assert rows_of(Checkpoints(tmp_path).load()[1]["m"], 40) == reel.rows()

    def test_rows_that_a_kept_checkpoint_shares_by_chance_stay(self, tmp_path):
        """Equal rows have one file, which an older checkpoint may need."""
        ring, store = np.zeros((10, 2), np.int64), Checkpoints(tmp_path, keep_last=1)
        store.save(1, {"m": {"ring": Ring(ring, 10)}})
        for written in (20, 30, 40):  # the same ten rows again and again
            store.write_ahead(written, {"m": {"ring": Ring(ring, written)}})
            store.close()
        ring += 1
        store.write_ahead(50, {"m": {"ring": Ring(ring, 50)}})
        store.close()
        assert Checkpoints(tmp_path).load()[0] == 1

    def test_rows_like_those_that_they_overwrite_stay(self, tmp_path):
        """Their file is the one whose first rows are gone."""
        store, array = Checkpoints(tmp_path), np.zeros((10, 2), np.int64)
        for written in (10, 20, 30):
            store.write_ahead(written, {"m": {"ring": Ring(array, written)}})
        store.save(1, {"m": {"ring": Ring(array, 30)}})
        found = np.ones((10, 2), np.int64)
        Checkpoints(tmp_path).load()[1]["m"]["ring"].copy_into(found)
        assert (found == 0).all()

    def test_says_when_enough_will_have_gathered(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        rows = ROW + 3  # bytes a step, of both rings
        reel.roll(5)
        assert store.write_ahead(5, {"m": reel.tree()}) == -(-(10 * ROW - 5 * rows) // rows) == 4
        assert store.write_ahead(10, {"m": reel.tree()}) == 7  # two steps a row: half as fast
        reel.roll(5)
        assert store.write_ahead(10, {"m": reel.tree()}) == -(-10 * ROW // rows) == 9  # nothing is left
        store.close()
        assert rows_on_disk(tmp_path) == [10]

    @pytest.mark.parametrize("tree", [{"a": 1}, {"ring": Ring(np.zeros((4, 2)), 0)}])
    def test_where_nothing_gathers_it_looks_ever_more_rarely(self, tmp_path, tree):
        store = Checkpoints(tmp_path / "none")
        assert [store.write_ahead(at, {"m": tree}) for at in (256, 512)] == [256, 512]
        assert not (tmp_path / "none").exists()

    def test_small_rings_wait_for_the_checkpoint(self, tmp_path, reel, monkeypatch):
        monkeypatch.setattr(segments, "LEAST_BYTES", 5 * ROW)
        store = Checkpoints(tmp_path)
        reel.roll(20)  # 320 bytes of one ring, 60 of the other
        store.write_ahead(20, {"m": reel.tree()})
        store.close()
        assert len(names(tmp_path)) == 1
        assert rows_on_disk(tmp_path) == [20]

    def test_many_small_rings_wait_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr(segments, "LEAST_BYTES", 4 * ROW)
        store, array = Checkpoints(tmp_path), np.zeros((9, 2), np.int64)
        # ten rows are enough in all, but not two of a ring
        for rows, files, period in ((2, 0, 2), (4, 1, 4)):
            rings = {str(k): Ring(array, rows) for k in range(5)}
            assert store.write_ahead(rows, {"m": rings}) == period
            store.close()
            assert len(list(tmp_path.rglob("*.npy"))) == files

    def test_a_ring_that_starts_over_is_written_anew(self, tmp_path):
        store, reel = Checkpoints(tmp_path), Reel(20)
        reel.roll(12)
        store.write_ahead(1, {"m": reel.tree()})
        other = Reel(20)
        other.roll(5)
        other.wide[:5] += 1
        store.save(2, {"m": other.tree()})
        assert rows_of(Checkpoints(tmp_path).load()[1]["m"], 20) == other.rows()

    def test_no_thread_outlives_its_folder(self, tmp_path, reel):
        before = set(threading.enumerate())
        store = Checkpoints(tmp_path)
        reel.roll(50)
        store.write_ahead(50, {"m": reel.tree()})
        store.close()
        assert set(threading.enumerate()) <= before


@pytest.mark.usefixtures("small")
class TestAccidents:
    def test_what_a_kill_left_is_swept_and_the_checkpoint_is_as_it_was(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        reel.roll(20)
        store.save(1, {"m": reel.tree()})
        before, rows = names(tmp_path), reel.rows()
        reel.roll(15)
        store.write_ahead(2, {"m": reel.tree()})
        store.close()
        assert len(names(tmp_path) - before) == 2
        new = Checkpoints(tmp_path)
        assert rows_of(new.load()[1]["m"], 100) == rows
        new.sweep_segments()
        assert names(tmp_path) == before

    def test_nothing_is_swept_where_a_checkpoint_cant_be_read(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        reel.roll(5)
        manifest = store.save(1, {"m": reel.tree()})
        before = names(tmp_path)
        manifest.write_bytes(manifest.read_bytes().replace(b'"format":', b'"farmot":'))
        Checkpoints(tmp_path).sweep_segments()
        assert names(tmp_path) == before

    def test_a_full_disk_is_the_checkpoints_to_tell(self, small_disk, reel):
        folder = small_disk.folder / "checkpoints"
        store, large = Checkpoints(folder), Reel(6000)
        large.roll(3000)
        store.save(1, {"m": large.tree()})
        rows = large.rows()
        small_disk.fill(leave=PAGE)
        large.roll(2000)
        for _ in range(2):
            store.write_ahead(2, {"m": large.tree()})
        store.close()
        with pytest.raises(NotWritten, match=FULL) as raised:
            store.save(2, {"m": large.tree()})
        assert re.fullmatch(r".* could not be written: .*", str(raised.value))
        assert not list(folder.rglob("*.tmp"))
        assert rows_of(Checkpoints(folder).load()[1]["m"], 6000) == rows
        small_disk.free()
        store.save(3, {"m": large.tree()})
        assert rows_of(Checkpoints(folder).load()[1]["m"], 6000) == large.rows()

    def test_a_copy_of_hard_links_outlives_what_becomes_of_the_folder(self, tmp_path):
        ours, copy, reel = tmp_path / "ours", tmp_path / "copy", Reel(20)
        store = Checkpoints(ours, keep_last=1)
        reel.roll(15)
        store.save(1, {"m": reel.tree()})
        shutil.copytree(ours, copy, copy_function=os.link)
        rows = reel.rows()
        for step in range(2, 9):
            reel.roll(11)
            store.write_ahead(step, {"m": reel.tree()})
            store.save(step, {"m": reel.tree()})
        assert rows_of(Checkpoints(copy).load()[1]["m"], 20) == rows
        assert rows_of(Checkpoints(ours).load()[1]["m"], 20) == reel.rows()

    def test_a_damaged_segment_written_ahead_is_named(self, tmp_path, reel):
        store = Checkpoints(tmp_path)
        store.save(1, {"m": reel.tree()})
        reel.roll(12)
        store.write_ahead(12, {"m": reel.tree()})
        store.close()
        (path,) = (p for p in tmp_path.rglob("*.npy") if np.load(p).dtype == np.int64)
        store.save(2, {"m": reel.tree()})
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.warns(OneLineWarning, match=f"checkpoint passed over: .*{path.name} has SHA-256"):
            assert Checkpoints(tmp_path).load()[0] == 1


def test_many_rings_are_written_by_several_threads_and_equal_ones_share_a_file(tmp_path):
    rings = {str(k): Ring(np.full((3, 2), k // 2), 3) for k in range(60)}
    manifest = Checkpoints(tmp_path).save(1, {"m": rings})
    stored = json.loads(manifest.read_bytes())["members"]["m"]["rings"]
    assert len(list(tmp_path.rglob("*.npy"))) == 30
    assert stored["/6"]["segments"][0]["file"] == stored["/7"]["segments"][0]["file"]
    loaded = Checkpoints(tmp_path).load()[1]["m"]
    for k in range(60):
        found = np.zeros((3, 2), np.int64)
        loaded[str(k)].copy_into(found)
        assert (found == k // 2).all()


KEYS = st.text(max_size=3).filter(lambda key: not key.startswith("$"))
LEAVES = st.one_of(
    st.integers(), st.builds(lambda: Ring(np.zeros((2, 1)), 1)), st.builds(lambda: np.zeros(2))
)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        LEAVES,
        lambda inner: (
            st.dictionaries(KEYS, inner, max_size=3)
            | st.dictionaries(KEYS | st.integers(0, 9), inner, max_size=3)
            | st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
        ),
        max_leaves=10,
    )
)
def test_rings_have_the_paths_that_checkpoints_give_them(tree):
    rings: dict[str, Ring] = {}
    encode(tree, "", {}, rings)
    found = dict(rings_of(tree))
    assert found.keys() == rings.keys()
    assert all(found[path] is ring for path, ring in rings.items())

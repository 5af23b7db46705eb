"""The checkpoint format: what is saved comes back, damage is said, and a kill costs one save at most."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.storage import checkpoint, formats
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt, CheckpointError, CheckpointMissing, FormatTooNew
from rl_lab.storage.state_trees import Ring, StoredRing, weights_sha256
from rl_lab.types import OneLineWarning
from state_tree_draws import require_equal, trees


def members(step: int) -> dict[str, Any]:
    """A small checkpoint whose every member depends on the step."""
    return {
        "weights": {"w": np.arange(6.0).reshape(2, 3) + step, "b": torch.full((2,), float(step))},
        "agent": {"count": step, "carry": (np.ones(3, np.float32) * step, np.zeros(3, np.float32))},
        "replay": {"obs": Ring(ring_rows(step, 4), step)},
    }


def ring_rows(written: int, capacity: int) -> np.ndarray:
    """The array of a ring after `written` rows [r, 10 r] went round."""
    array = np.zeros((capacity, 2), np.int64)
    for row in range(written):
        array[row % capacity] = (row, 10 * row)
    return array


def restored_ring(ring: StoredRing, capacity: int) -> np.ndarray:
    array = np.zeros((capacity, 2), np.int64)
    ring.copy_into(array)
    return array


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def segments(folder: Path) -> set[str]:
    return {p.name for p in (folder / "segments").iterdir()}


class TestRoundTrip:
    @settings(max_examples=60, deadline=None)
    @given(tree=trees)
    def test_what_is_saved_comes_back(self, tmp_path_factory, tree):
        folder = tmp_path_factory.mktemp("tree")
        Checkpoints(folder).save(7, {"member": {"tree": tree}})
        step, loaded = Checkpoints(folder).load()
        assert step == 7
        require_equal(loaded["member"]["tree"], tree)
        shutil.rmtree(folder)

    def test_slashes_in_keys_are_no_paths(self, tmp_path):
        tree = {"a/b": np.array([1.0]), "a": {"b": np.array([2.0])}, "a~1b": np.array([3.0])}
        Checkpoints(tmp_path).save(0, {"m": tree})
        require_equal(Checkpoints(tmp_path).load()[1]["m"], tree)

    @pytest.mark.parametrize("key", [1.5, "$tensor", ("a",)])
    def test_refuses_keys_that_would_not_come_back(self, tmp_path, key):
        with pytest.raises(TypeError, match="state key"):
            Checkpoints(tmp_path).save(0, {"m": {key: 1}})

    @pytest.mark.parametrize("leaf", [object(), {1, 2}, np.array(["text"]), np.array([None], object), b"x"])
    def test_refuses_leaves_that_are_no_plain_data(self, tmp_path, leaf):
        with pytest.raises(Exception, match=r"."):
            Checkpoints(tmp_path).save(0, {"m": {"leaf": leaf}})
        with pytest.raises(CheckpointMissing):
            Checkpoints(tmp_path).load()

    def test_leaves_may_change_right_after_the_save(self, tmp_path):
        live = np.zeros(4)
        Checkpoints(tmp_path).save(0, {"m": {"live": live[::2]}})
        live += 1
        assert Checkpoints(tmp_path).load()[1]["m"]["live"].tolist() == [0.0, 0.0]

    def test_loads_only_the_members_that_are_asked_for(self, tmp_path):
        Checkpoints(tmp_path).save(3, members(3))
        assert Checkpoints(tmp_path).load(only=("weights",))[1].keys() == {"weights"}

    def test_hash_of_weights_sees_values_names_shapes_and_dtypes(self):
        base = {"w": np.zeros((2, 3), np.float32)}
        others = [
            {"w": np.full((2, 3), 1e-45, np.float32)},
            {"v": np.zeros((2, 3), np.float32)},
            {"w": np.zeros((3, 2), np.float32)},
            {"w": np.zeros((2, 3), np.int32)},
            {"w": np.zeros((2, 3), np.float32), "n": 1},
        ]
        hashes = [weights_sha256(w) for w in [base, *others]]
        assert len(set(hashes)) == len(hashes)
        assert weights_sha256({"w": torch.zeros(2, 3)}) == hashes[0]


class TestRings:
    @settings(max_examples=40, deadline=None)
    @given(capacity=st.integers(1, 7), steps=st.lists(st.integers(0, 9), min_size=1, max_size=6))
    def test_every_checkpoint_holds_the_rows_of_a_plain_copy(self, tmp_path_factory, capacity, steps):
        folder = tmp_path_factory.mktemp("ring")
        writer, written = Checkpoints(folder, keep_last=1), 0
        for count, more in enumerate(steps):
            written += more
            writer.save(count, {"m": {"ring": Ring(ring_rows(written, capacity), written)}})
            ring = Checkpoints(folder).load()[1]["m"]["ring"]
            assert ring.written == written
            np.testing.assert_array_equal(restored_ring(ring, capacity), ring_rows(written, capacity))
        shutil.rmtree(folder)

    def test_a_save_writes_only_the_new_rows(self, tmp_path):
        writer = Checkpoints(tmp_path)
        for written in (5, 7):
            writer.save(written, {"m": {"ring": Ring(ring_rows(written, 100), written)}})
        sizes = sorted(len(np.load(p, allow_pickle=False)) for p in tmp_path.rglob("*.npy"))
        assert sizes == [2, 5]

    def test_overwritten_rows_leave_the_disk(self, tmp_path):
        writer = Checkpoints(tmp_path, keep_last=1)
        for written in range(0, 50, 2):
            writer.save(written, {"m": {"ring": Ring(ring_rows(written, 4), written)}})
        rows = sum(len(np.load(p, allow_pickle=False)) for p in tmp_path.rglob("*.npy"))
        assert rows <= 4

    @pytest.mark.parametrize("array", [np.zeros((4, 3), np.int64), np.zeros((4, 2), np.float64)])
    def test_refuses_a_ring_of_another_kind(self, tmp_path, array):
        Checkpoints(tmp_path).save(3, members(3))
        with pytest.raises(CheckpointError, match="don't fit"):
            Checkpoints(tmp_path).load()[1]["replay"]["obs"].copy_into(array)


class TestWhatIsKept:
    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_keeps_the_newest(self, tmp_path, keep):
        writer = Checkpoints(tmp_path, keep_last=keep)
        for step in range(5):
            writer.save(step, members(step))
        kept = [int(p.name.split("-")[0]) for p in writer.manifests()]
        assert kept == list(range(5))[-keep:]

    def test_manifests_stand_in_the_order_of_steps_whatever_their_hashes(self, tmp_path):
        writer = Checkpoints(tmp_path, keep_last=50)
        for step in (3, 20, 100, 1000, 20_000):
            writer.save(step, {"m": {"step": step}})
        assert [int(p.name.split("-")[0]) for p in writer.manifests()] == [3, 20, 100, 1000, 20_000]

    def test_of_two_at_one_step_the_later_one_counts(self, tmp_path):
        writer = Checkpoints(tmp_path)
        for second, value in enumerate(("first", "second", "third"), 1):
            path = writer.save(5, {"m": {"value": value}})
            os.utime(path, (second, second))
        assert Checkpoints(tmp_path).load()[1]["m"]["value"] == "third"

    def test_sweeps_strays_and_segments_nobody_needs(self, tmp_path):
        writer = Checkpoints(tmp_path, keep_last=1)
        writer.save(1, members(1))
        strays = [tmp_path / name for name in ("0-x.json.tmp", "segments/ab.npy.tmp", "segments/ff.json")]
        for path in strays:
            path.write_bytes(b"half")
        writer.save(2, members(2))
        body = json.loads(writer.manifests()[-1].read_bytes())
        assert segments(tmp_path) == {s["file"] for s in checkpoint._segments_of(body)}
        assert not any(path.exists() for path in strays)

    def test_equal_members_share_a_segment(self, tmp_path):
        writer = Checkpoints(tmp_path)
        same = np.arange(1000.0)
        writer.save(1, {"m": {"same": same}, "n": {"step": 1}})
        before = segments(tmp_path)
        writer.save(2, {"m": {"same": same}, "n": {"step": 2}})
        assert len(segments(tmp_path) - before) == 1

    def test_a_damaged_segment_is_written_again_rather_than_shared(self, tmp_path):
        writer = Checkpoints(tmp_path)
        same = {"m": {"same": np.arange(10.0)}}
        writer.save(1, same)
        flip(next((tmp_path / "segments").glob("*.safetensors")), 100)
        writer.save(2, same)
        require_equal(Checkpoints(tmp_path).load(), (2, same))


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


def faults(folder: Path, flips: int, cuts: int) -> list[tuple[str, str, float]]:
    """Spread bit flips and truncations over every file of a checkpoint."""
    rng, names = random.Random(5), sorted(files(folder))
    kinds = ["flip"] * flips + ["cut"] * cuts
    return [(kind, names[i % len(names)], rng.random()) for i, kind in enumerate(kinds)]


def damage(path: Path, kind: str, where: float) -> None:
    size = path.stat().st_size
    if kind == "flip":
        flip(path, int(where * size * 8))
    else:
        os.truncate(path, int(where * size))


def quiet_load(folder: Path) -> tuple[Any, list[str]]:
    """Return what loads (or the error), and the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = Checkpoints(folder).load()
        except CheckpointCorrupt as error:
            found = error
    return found, [str(w.message) for w in said]


class TestCorruption:
    @pytest.fixture
    def saved(self, tmp_path):
        """Two checkpoints with members of each kind: one shares the first rows of the other's ring."""
        writer = Checkpoints(tmp_path / "saved")
        for step in (3, 5):
            writer.save(step, members(step))
        return tmp_path / "saved"

    def test_no_flip_and_no_truncation_is_silent(self, saved, tmp_path):
        wholes = {step: members(step) for step in (3, 5)}
        outcomes = {"newest": 0, "previous": 0, "none": 0}
        for number, (kind, name, where) in enumerate(faults(saved, 1000, 50)):
            copy = tmp_path / str(number)
            shutil.copytree(saved, copy)
            damage(copy / name, kind, where)
            found, said = quiet_load(copy)
            if isinstance(found, CheckpointCorrupt):
                outcomes["none"] += 1
                continue
            step, loaded = found
            loaded["replay"]["obs"] = Ring(restored_ring(loaded["replay"]["obs"], 4), step)
            for member in ("weights", "agent"):
                require_equal(loaded[member], wholes[step][member])
            np.testing.assert_array_equal(loaded["replay"]["obs"].array, ring_rows(step, 4))
            outcomes["newest" if step == 5 else "previous"] += 1
            if step == 3:
                assert any("checkpoint passed over" in text for text in said)
        assert min(outcomes.values()) > 0, outcomes
        assert sum(outcomes.values()) == 1050

    def test_a_missing_segment_falls_back(self, saved):
        writer = Checkpoints(saved)
        newest, previous = (
            {s["file"] for s in checkpoint._segments_of(json.loads(p.read_bytes()))}
            for p in reversed(writer.manifests())
        )
        (saved / "segments" / min(newest - previous)).unlink()
        with pytest.warns(OneLineWarning, match="checkpoint passed over"):
            assert Checkpoints(saved).load()[0] == 3

    def test_the_error_is_one_line_that_names_the_folder(self, saved):
        for path in saved.glob("*.json"):
            flip(path, 9)
        found, _ = quiet_load(saved)
        assert isinstance(found, CheckpointCorrupt)
        assert str(saved) in str(found)
        assert "\n" not in str(found)

    def test_no_checkpoint_at_all_is_said(self, tmp_path):
        with pytest.raises(CheckpointMissing, match="no checkpoint in"):
            Checkpoints(tmp_path / "nothing").load()


def rewrite(path: Path, **changes: Any) -> Path:
    """Replace a manifest by one with other contents and the right hash, as another program could."""
    data = json.dumps(json.loads(path.read_bytes()) | changes).encode()
    path.unlink()
    new = path.with_name(f"{path.name.split('-')[0]}-{hashlib.sha256(data).hexdigest()[:16]}.json")
    new.write_bytes(data)
    return new


class TestForeignManifests:
    def test_a_newer_format_is_named_and_not_passed_over(self, tmp_path):
        writer = Checkpoints(tmp_path)
        for step in (1, 2):
            writer.save(step, members(step))
        rewrite(writer.manifests()[-1], format=formats.FORMAT + 1)
        with pytest.raises(FormatTooNew, match=f"format {formats.FORMAT + 1}"):
            Checkpoints(tmp_path).load()

    @pytest.mark.parametrize("name", ["../secret.json", "/etc/hostname", "sub/secret.json", "..", "."])
    def test_a_segment_outside_the_folder_is_not_read(self, tmp_path, name):
        secret = json.dumps({"secret": 1}).encode()
        folder = tmp_path / "checkpoints"
        path = Checkpoints(folder).save(1, {"m": {"a": 1}})
        (folder / "secret.json").write_bytes(secret)
        (folder / "segments" / "sub").mkdir()
        (folder / "segments" / "sub" / "secret.json").write_bytes(secret)
        segment = {"file": name, "sha256": hashlib.sha256(secret).hexdigest(), "bytes": len(secret)}
        rewrite(path, members={"m": {"structure": segment, "tensors": None, "rings": {}}})
        found, _ = quiet_load(folder)
        assert isinstance(found, CheckpointCorrupt)


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class TestKillsInsideASave:
    @pytest.mark.parametrize("call", ["replace", "fsync", "unlink"])
    def test_the_previous_checkpoint_stays_whole(self, tmp_path, monkeypatch, call):
        original, deaths = getattr(os, call), 0
        for survives in range(40):
            folder, left = tmp_path / str(survives), survives
            writer = Checkpoints(folder, keep_last=1)
            writer.save(3, members(3))

            def deadly(*args, **kwargs):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return original(*args, **kwargs)

            with monkeypatch.context() as patch:
                patch.setattr(os, call, deadly)
                try:
                    writer.save(5, members(5))
                    died = False
                except Killed:
                    died = True
            self._require_whole(folder, allowed=(3, 5) if died else (5,))
            deaths += died
            if not died:
                break
        assert not died
        assert deaths >= 3  # each of the moments was met

    @staticmethod
    def _require_whole(folder: Path, allowed: tuple[int, ...]) -> None:
        found, said = quiet_load(folder)
        assert said == []
        step, loaded = found
        assert step in allowed
        for member in ("weights", "agent"):
            require_equal(loaded[member], members(step)[member])
        np.testing.assert_array_equal(restored_ring(loaded["replay"]["obs"], 4), ring_rows(step, 4))
        Checkpoints(folder, keep_last=1).save(6, members(6))  # whoever comes next sweeps the rest
        assert not [name for name in files(folder) if name.endswith(".tmp")]
        assert Checkpoints(folder).load()[0] == 6

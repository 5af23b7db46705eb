"""Writing a dataset where there is no room, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from gymnasium.spaces import Discrete

from disks import FULL
from recorded import on_frozen_lake
from rl_lab.datasets.dataset import DATA, Dataset
from rl_lab.datasets.writer import DatasetWriter, _Patient, new_dataset, require_dataset_place
from rl_lab.storage.errors import NotWritten
from rl_lab.types import UsageError


def size_of_data(tmp_path):
    return (on_frozen_lake(tmp_path / "data") / DATA).stat().st_size


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_a_full_disk_leaves_nothing_wherever_it_comes(share, small_disk, tmp_path):
    leave = int(share * size_of_data(tmp_path)) // 4096 * 4096
    small_disk.fill(leave)
    if not small_disk.mounted and share == 1.0:
        pytest.skip("a limit on sizes lets the smaller files pass")
    with pytest.raises(NotWritten, match=FULL) as failure:
        on_frozen_lake(small_disk.folder / "data")
    assert "\n" not in str(failure.value)
    assert str(small_disk.folder / "data") in str(failure.value)
    assert small_disk.names() == set()
    small_disk.free()
    assert Dataset(on_frozen_lake(small_disk.folder / "data")).sha256 == Dataset(tmp_path / "data").sha256


@pytest.mark.parametrize("place", ["file/data", "/proc/data", "n" * 300, ""])
def test_a_place_that_takes_no_files_is_refused_before_anything_is_played(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match=r"^dataset '.*"):
        require_dataset_place(place)
    with pytest.raises(UsageError, match=r"^dataset '.*"), new_dataset(place, None, None):
        pytest.fail("opened")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_refusal_is_kept_from_hdf5_and_raised_when_it_is_asked_for():
    disk = _Patient(Path("/dev/full"))
    disk.write(b"1")
    disk.flush()
    with pytest.raises(OSError, match="No space left"):
        disk.raise_refusal()
    disk.close()


def test_a_refusal_of_the_last_bytes_fails_the_dataset(tmp_path, monkeypatch):
    writer = DatasetWriter(tmp_path, tmp_path / "data", Discrete(4), Discrete(2))
    close = writer.close

    def refused():
        close()
        writer._disk._refusal = OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "close", refused)
    with pytest.raises(OSError, match="No space left"):
        writer.finish()
    assert not (tmp_path / "metadata.json").exists()

"""The order in which a file reaches the disk: a power cut at any moment leaves the old one or the new one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.files import move, write_atomically


@pytest.fixture
def synced(monkeypatch):
    """What is synced and renamed from here on, in order."""
    events: list[tuple[str, str]] = []
    replace = os.replace

    def fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        events.append((f"sync {kind}", Path(f"/proc/self/fd/{descriptor}").resolve().name))

    def renamed(source, target, **asked) -> None:
        replace(source, target, **asked)
        events.append(("rename", Path(target).name))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
    return events


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors have no names here")
class TestOrder:
    def test_bytes_come_first_then_the_name_then_the_folder_that_holds_the_name(self, tmp_path, synced):
        folder = tmp_path / "folder"
        folder.mkdir()
        write_atomically(folder / "name", b"new")
        assert [event for event, _ in synced] == ["sync file", "rename", "sync folder"]
        assert synced[1:] == [("rename", "name"), ("sync folder", "folder")]

    def test_another_name_is_lasting_too(self, tmp_path, synced):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "old").write_text("kept")
        move(tmp_path / "folder" / "old", tmp_path / "folder" / "new")
        assert synced == [("rename", "new"), ("sync folder", "folder")]
        assert (tmp_path / "folder" / "new").read_text() == "kept"
        assert not (tmp_path / "folder" / "old").exists()

    def test_every_file_of_a_checkpoint_is_written_so_and_the_manifest_last(self, tmp_path, synced):
        manifest = Checkpoints(tmp_path / "checkpoints").save(3, {"one": {"a": [1]}, "other": {"b": [2]}})
        assert [event for event, _ in synced] == ["sync file", "rename", "sync folder"] * 3
        assert [name for event, name in synced if event == "sync folder"] == [
            "segments",
            "segments",
            "checkpoints",
        ]
        assert synced[-2] == ("rename", manifest.name)

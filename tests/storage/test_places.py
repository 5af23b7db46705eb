"""A place that takes no files is refused in a line, before any work is done, and nothing is left there."""

from __future__ import annotations

import os

import pytest

from rl_lab.storage.places import require_file, require_folder
from rl_lab.types import UsageError

PLACES = {
    "file/a": "Not a directory",
    "file/a/b": "Not a directory",
    "/proc/a": "No such file or directory",
    "n" * 300: "File name too long",
    "missing/" + "n" * 300: "File name too long",
    "/".join(["abc"] * 2000): "File name too long",
    "dangling/a": "No such file or directory",
    "a\0b": "null",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Let the current folder hold a file and a link that leads nowhere, and require that it is left as it was."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    yield tmp_path
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file"]


@pytest.mark.parametrize("require", [require_file, require_folder])
@pytest.mark.parametrize(("place", "reason"), PLACES.items(), ids=lambda text: text[:12].replace("\0", ""))
def test_what_takes_no_files_is_named_with_the_reason(require, place, reason):
    with pytest.raises(UsageError, match=reason) as refusal:
        require(place, "out")
    assert str(refusal.value).startswith(f"out {place!r} can't be written")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("require", [require_file, require_folder])
def test_an_empty_name_is_refused(require):
    with pytest.raises(UsageError, match="out '' is empty"):
        require("", "out")


def test_files_and_folders_are_told_apart():
    with pytest.raises(UsageError, match="can't be written: Is a directory"):
        require_file(".", "out")
    with pytest.raises(UsageError, match="can't be written into: Not a directory"):
        require_folder("file", "out")


@pytest.mark.parametrize("place", ["-dash", "a/b/c", "../x/y", "."])
def test_a_folder_that_can_be_made_passes_and_is_not_made(place):
    assert str(require_folder(place, "out")) == place


@pytest.mark.parametrize("place", ["-dash.mp4", "a/b/c.json", "file", "/dev/null"])
def test_a_file_that_can_be_written_passes_and_is_not_touched(place):
    assert str(require_file(place, "out")) == place


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    locked = tmp_path.parent / f"{tmp_path.name}-locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(UsageError, match="Permission denied"):
        require_folder(locked / "a", "out")


def test_a_disk_that_is_read_only_is_refused(small_disk_read_only):
    for require in (require_file, require_folder):
        with pytest.raises(UsageError, match="Read-only file system"):
            require(small_disk_read_only / "a", "out")

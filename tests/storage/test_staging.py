"""Files that take their places together: all of them, or none."""

from __future__ import annotations

import pytest

from commands import snapshot
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.staging import staged


def put(folder, **content):
    """Write files of a word each."""
    for name, text in content.items():
        (folder / name).write_text(text)


def fill(folder, error, **content):
    """Write files of a word each that move to a folder together, or fail before they do."""
    with staged(folder) as place:
        put(place, **content)
        if error is not None:
            raise error


def test_all_files_move_when_the_block_has_ended(tmp_path):
    put(tmp_path, a="old", b="old", other="stays")
    with staged(tmp_path) as place:
        put(place, a="new", c="new")
        assert (tmp_path / "a").read_text() == "old"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a": "new", "b": "old", "c": "new", "other": "stays",
    }  # fmt: skip


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_none_does_where_the_block_fails(tmp_path, error):
    put(tmp_path, a="old")
    before = snapshot(tmp_path)
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(error):
            fill(folder, error, a="new")
        assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_none_does_where_one_of_them_has_no_place(tmp_path):
    put(tmp_path, a="old")
    (tmp_path / "b").mkdir()
    with pytest.raises(NotWritten, match="b could not be written: it is not a regular file"):
        fill(tmp_path, None, a="new", b="new")
    assert (tmp_path / "a").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    put(tmp_path / "far", a="old")
    (tmp_path / "a").symlink_to("far/a")
    with staged(tmp_path) as place:
        put(place, a="new")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "far" / "a").read_text() == "new"


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    put(tmp_path, a="a file")
    with pytest.raises(NotWritten, match="a could not be written into"), staged(tmp_path / "a"):
        pass

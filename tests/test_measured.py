"""The data files of coverage: those that a kill cut short are left out, all others are combined."""

from __future__ import annotations

import pytest
from coverage import CoverageData
from coverage.data import combine_parallel_data

from measured import remove_damaged

PAGE = 4096


@pytest.fixture
def files(tmp_path):
    """Three whole files, of the lines 1 to 300 of as many modules."""
    for name in "abc":
        data = CoverageData(str(tmp_path / f".coverage.{name}"))
        data.add_lines({f"/{name}{k}.py": range(1, 300) for k in range(200)})
    return tmp_path


def combined(folder) -> set[str]:
    data = CoverageData(str(folder / ".coverage"))
    combine_parallel_data(data)
    return {path[1] for path in data.measured_files()}


def test_whole_files_are_left(files):
    assert remove_damaged(files) == []
    assert combined(files) == set("abc")


@pytest.mark.parametrize("size", [0, 100, PAGE, 3 * PAGE])
def test_a_file_that_ends_early_is_removed(files, size):
    path = files / ".coverage.b"
    path.write_bytes(path.read_bytes()[:size])
    assert remove_damaged(files) == [path]
    assert combined(files) == set("ac")


def test_a_file_that_lacks_any_of_its_pages_is_removed(files):
    path = files / ".coverage.b"
    whole = path.read_bytes()
    for at in range(0, len(whole), PAGE):
        path.write_bytes(whole[:at] + bytes(PAGE) + whole[at + PAGE :])
        assert remove_damaged(files) == [path]
    assert combined(files) == set("ac")


def test_no_other_file_is_touched(files):
    for name in (".coveragerc", "coverage.x"):
        (files / name).write_text("no database")
    assert remove_damaged(files) == []
    assert (files / ".coveragerc").exists()

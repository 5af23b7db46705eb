"""Who could have written the code in a folder."""

from __future__ import annotations

import os

import pytest

from rl_lab.code_folders import is_own_file, make_private, refuse_beside, refuse_code_folder

ANOTHER_USER = 12345


@pytest.fixture
def folder(tmp_path):
    """A folder of this user, in one of this user's."""
    (tmp_path / "above" / "code").mkdir(parents=True, mode=0o700)
    (tmp_path / "above").chmod(0o700)
    return tmp_path / "above" / "code"


def owned_by(monkeypatch, owners: dict) -> None:
    """Let paths appear to belong to users: only root could give them away."""
    for name in ("stat", "lstat"):
        real = getattr(type(next(iter(owners))), name)

        def told(path, *, real=real, **asked):
            status = list(real(path, **asked))
            status[4] = owners.get(path, status[4])
            return os.stat_result(status)

        monkeypatch.setattr(type(next(iter(owners))), name, told)


def test_a_private_folder_is_trusted(folder):
    assert refuse_code_folder(folder) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_one_that_others_may_write_to_is_not(folder, mode):
    folder.chmod(mode)
    assert refuse_code_folder(folder) == "can be written by other users"


@pytest.mark.parametrize(("mode", "trusted"), [(0o755, True), (0o1777, True), (0o777, False), (0o770, False)])
def test_nor_one_that_others_could_replace(folder, mode, trusted):
    folder.parent.chmod(mode)
    reason = None if trusted else f"lies in {str(folder.parent)!r}, which can be written by other users"
    assert refuse_code_folder(folder) == reason


def test_nor_one_of_another_user(folder, monkeypatch):
    owned_by(monkeypatch, {folder: ANOTHER_USER})
    assert refuse_code_folder(folder) == "belongs to another user"


@pytest.mark.parametrize(("owner", "trusted"), [(0, True), (ANOTHER_USER, False)])
def test_nor_one_in_a_folder_of_another_user_unless_that_is_root(folder, monkeypatch, owner, trusted):
    owned_by(monkeypatch, {folder.parent: owner})
    reason = None if trusted else f"lies in {str(folder.parent)!r}, which belongs to another user"
    assert refuse_code_folder(folder) == reason


def test_what_is_missing_is_made_for_this_user_alone(tmp_path):
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [(path.stat().st_mode & 0o777) for path in (tmp_path / "a", tmp_path / "a" / "b")] == [0o700] * 2
    make_private(tmp_path / "a" / "b")
    assert refuse_code_folder(tmp_path / "a" / "b") is None


def test_only_closed_files_of_this_user_count_as_its_own(tmp_path, monkeypatch):
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch(mode=0o644)
    link.symlink_to(file)
    assert is_own_file(file)
    assert not is_own_file(link)
    assert not is_own_file(tmp_path)
    file.chmod(0o664)
    assert not is_own_file(file)
    file.chmod(0o600)
    owned_by(monkeypatch, {file: ANOTHER_USER})
    assert not is_own_file(file)


def test_a_cache_beside_its_source_is_as_safe_as_the_source(folder, monkeypatch):
    source = folder.parent
    source.chmod(0o775)
    folder.chmod(0o775)
    assert refuse_beside(folder, source) is None
    folder.chmod(0o777)
    assert refuse_beside(folder, source) == "can be written by other users"
    folder.chmod(0o755)
    owned_by(monkeypatch, {folder: ANOTHER_USER})
    assert refuse_beside(folder, source) == "belongs to another user"
    owned_by(monkeypatch, {folder: ANOTHER_USER, source: ANOTHER_USER})
    assert refuse_beside(folder, source) is None

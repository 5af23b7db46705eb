"""Compiled libraries on disk: whose are loaded, where they are kept, and when they are removed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import sha256
from rl_lab.types import UsageError
from rl_lab.updates import libraries
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.libraries import find_library, keep_library, library_folder, remove_old

DAY = 24 * 3600.0


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache of the user, in a process that hasn't looked at any folder yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    forget()
    yield tmp_path / "cache" / "rl_lab"
    forget()


def forget() -> None:
    libraries._prepared_folder.cache_clear()


def named(folder: Path, data: bytes) -> Path:
    """Where `find_library("name")` looks for a library of these bytes."""
    return folder / f"name-{sha256(data)}.so"


@pytest.mark.skipif(sys.platform != "linux", reason="the cache lies elsewhere")
class TestFolder:
    def test_by_default_it_is_a_private_one_in_the_users_cache(self, home):
        assert library_folder() == home / "libraries"
        assert library_folder().stat().st_mode & 0o777 == 0o700

    def test_torchs_own_default_that_anybody_can_foresee_is_not_used(self, home, monkeypatch, tmp_path):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(libraries.torch_folder()))  # torch sets it itself
        assert library_folder() == home / "libraries"

    def test_the_users_choice_is_taken(self, home, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
        assert library_folder() == tmp_path / "mine" / "rl_lab"

    @pytest.mark.parametrize("chosen", [False, True])
    def test_one_that_others_may_write_to_is_named_once_and_replaced(
        self, home, tmp_path, monkeypatch, chosen
    ):
        folder = home / "libraries"
        if chosen:
            folder = tmp_path / "mine" / "rl_lab"
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
        folder.mkdir(parents=True)
        named(folder, b"planted").write_bytes(b"planted")
        folder.chmod(0o777)
        with pytest.warns(
            UserWarning, match=f"'{folder}', which can be written by other users: each process"
        ):
            used = library_folder()
        assert used.stat().st_mode & 0o777 == 0o700
        assert find_library("name") is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert library_folder() == used
        assert find_library("name") is None

    def test_a_link_to_a_folder_that_others_may_write_to_is_not_followed(self, home, tmp_path):
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs").chmod(0o777)
        home.mkdir(parents=True)
        (home / "libraries").symlink_to(tmp_path / "theirs")
        with pytest.warns(UserWarning, match="theirs', which can be written by other users"):
            assert library_folder() != tmp_path / "theirs"

    def test_a_cache_that_cannot_be_made_is_named_and_replaced(self, home, tmp_path):
        (tmp_path / "cache").touch()
        with pytest.warns(UserWarning, match="libraries', which can't be made: "):
            assert library_folder().is_dir()

    def test_a_choice_that_cannot_be_made_is_an_error(self, home, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
        with pytest.raises(
            UsageError, match=r"TORCHINDUCTOR_CACHE_DIR: .*/file/rl_lab'.*\(allowed: .* compile 'no'\)"
        ):
            library_folder()


class TestLibraries:
    def test_what_is_kept_is_found(self, home):
        assert find_library("name") is None
        path = keep_library("name", b"any bytes")
        assert path == named(library_folder(), b"any bytes") == find_library("name")
        assert path.read_bytes() == b"any bytes"
        assert find_library("other") is None
        assert [p.name for p in library_folder().iterdir()] == [path.name]

    def test_a_full_disk_leaves_nothing_of_it(self, home, monkeypatch):
        def half(path, data):
            with path.open("wb") as file:
                file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", half)
        with pytest.raises(NotWritten, match="No space left on device"):
            keep_library("name", b"any bytes")
        assert list(library_folder().iterdir()) == []

    def test_it_is_found_where_a_group_may_write_to_new_files(self, home):
        before = os.umask(0o002)
        try:
            path = keep_library("name", b"any bytes")
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == 0o600
        assert find_library("name") == path

    @pytest.mark.parametrize("damaged", [b"", b"any ", b"Any bytes"])
    def test_a_damaged_one_is_not_loaded(self, home, damaged):
        keep_library("name", b"any bytes").write_bytes(damaged)
        assert find_library("name") is None

    def test_one_that_another_user_could_have_written_is_not_loaded(self, home):
        path = keep_library("name", b"any bytes")
        path.chmod(0o666)
        assert find_library("name") is None

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
    def test_one_of_another_user_is_not_loaded(self, home):
        os.chown(keep_library("name", b"any bytes"), 12345, -1)
        assert find_library("name") is None

    def test_those_that_no_run_has_used_for_a_month_are_removed_when_a_process_begins(self, home):
        used, unused = keep_library("name", b"used"), keep_library("other", b"unused")
        left = library_folder() / "compiling-killed"
        left.mkdir()
        (left / "inner").touch()
        for path in (used, unused, left / "inner", left):
            age(path, 31)
        assert find_library("name") == used  # used again
        forget()
        assert set(library_folder().iterdir()) == {used}

    def test_younger_ones_and_folders_at_work_are_left(self, tmp_path):
        for name in ("young.so", "old/young"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
            age(tmp_path / name, 29)
        age(tmp_path / "old", 31)
        remove_old(tmp_path)
        assert (tmp_path / "young.so").exists()
        assert (tmp_path / "old" / "young").exists()

    def test_two_processes_that_remove_at_once_do_not_mind(self, tmp_path, monkeypatch):
        for name in ("a.so", "b.so"):
            (tmp_path / name).touch()
            age(tmp_path / name, 31)
        real = Path.unlink

        def slower(path, **asked):
            real(path)
            real(path)

        monkeypatch.setattr(Path, "unlink", slower)
        remove_old(tmp_path)
        assert list(tmp_path.iterdir()) == []


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


# The code of a planted library runs as soon as it is loaded.
PLANTED = '__attribute__((constructor)) static void run() { FILE *f = fopen("%s", "w"); if (f) fclose(f); }'
CALL = """
import torch
from rl_lab.updates.compiling import compiled
print(compiled("double", lambda x: [2 * x], torch.ones(1))([torch.ones(1)])[0].item())
"""


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_a_planted_library_is_run_in_a_private_folder_but_not_where_others_may_write(tmp_path):
    """It has the right name and hash: nothing but the folder tells it from an honest one."""
    chosen, canary = tmp_path / "cache", tmp_path / "canary"

    def called() -> subprocess.CompletedProcess:
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(chosen)}
        return subprocess.run([sys.executable, "-c", CALL], env=env, capture_output=True, text=True)

    assert called().stdout == "2.0\n"
    (honest,) = (chosen / "rl_lab").glob("*.so")
    source = tmp_path / "planted.cpp"
    source.write_text("#include <cstdio>\n" + PLANTED % canary)
    compiler = os.environ.get("CXX") or shutil.which("g++") or "clang++"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "planted.so", source], check=True)
    data = (tmp_path / "planted.so").read_bytes()
    (honest.parent / f"{honest.stem.split('-')[0]}-{sha256(data)}.so").write_bytes(data)
    honest.unlink()
    assert called().stdout == ""
    assert canary.exists()  # it was loaded, so that the rest means something
    canary.unlink()
    honest.parent.chmod(0o777)
    done = called()
    assert not canary.exists()
    assert done.stdout == "2.0\n"
    assert "can be written by other users" in done.stderr

"""Files are written whole or not at all, also on a disk that is really full."""

from __future__ import annotations

import io
import os
import re
import stat
import threading

import numpy as np
import pytest

from disks import FULL
from rl_lab.mdp.exchange import load_model, save_model
from rl_lab.storage import files
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import (
    npy_parts,
    reason_of,
    replacing,
    require_zip,
    sha256,
    size_of,
    write_atomically,
    write_json,
)
from tabular_envs import model_of

CHAIN = model_of("RandomWalk")


class TestReplacing:
    def test_the_old_file_stays_until_the_block_has_ended(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
            assert temporary.parent == tmp_path
        assert path.read_text() == "new"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failed_check_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_text("old")

        def check(temporary):
            raise ValueError(f"{temporary.stat().st_size} bytes\nare wrong")

        wanted = r"a\.txt could not be written: 3 bytes are wrong$"
        with pytest.raises(NotWritten, match=wanted), replacing(path, check) as temporary:
            temporary.write_text("new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
    def test_what_is_raised_in_the_block_comes_out_as_it_is(self, tmp_path, error):
        def write():
            with replacing(tmp_path / "a.txt") as temporary:
                temporary.write_text("half")
                raise error

        with pytest.raises(type(error)) as raised:
            write()
        assert raised.value is error
        assert list(tmp_path.iterdir()) == []

    def test_two_threads_may_write_the_same_file_at_once(self, tmp_path, monkeypatch):
        both, errors = threading.Barrier(2, timeout=60), []
        sync = files.sync

        def together(path):
            if path.suffix == ".tmp":
                both.wait()  # two temporaries are there
            sync(path)

        def write():
            try:
                write_atomically(tmp_path / "a.txt", b"one", b" text")
            except NotWritten as error:
                errors.append(error)

        monkeypatch.setattr(files, "sync", together)
        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"one text"]

    def test_nothing_written_is_a_failure(self, tmp_path):
        with pytest.raises(NotWritten, match="No such file"), replacing(tmp_path / "a.txt"):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_a_link_stays_a_link(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "real" / "a.txt").write_text("old")
        link = tmp_path / "link.txt"
        link.symlink_to(tmp_path / "real" / "a.txt")
        write_atomically(link, b"new")
        assert link.is_symlink()
        assert (tmp_path / "real" / "a.txt").read_text() == "new"

    def test_two_processes_that_write_at_the_same_time_do_not_meet(self, tmp_path, monkeypatch):
        path = tmp_path / "a.txt"
        with replacing(path) as ours:
            ours.write_text("ours")
            monkeypatch.setattr("rl_lab.storage.files.os.getpid", lambda: 1)
            with replacing(path) as theirs:
                theirs.write_text("theirs")
            assert path.read_text() == "theirs"
        assert path.read_text() == "ours"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_or_a_pipe_is_never_replaced(self, tmp_path):
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        for name in ("folder", "pipe"):
            with pytest.raises(NotWritten, match=f"{name} could not be written"), replacing(tmp_path / name):
                pytest.fail("entered")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]

    def test_names_of_the_greatest_length_have_a_temporary_too(self, tmp_path):
        path = tmp_path / ("n" * 250 + ".json")
        write_json(path, [1])
        assert path.read_text() == "[\n 1\n]"

    def test_new_files_have_the_usual_permissions(self, tmp_path):
        (tmp_path / "plain").write_bytes(b"1")
        write_atomically(tmp_path / "ours", b"1")
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "ours")}
        assert len(modes) == 1

    def test_an_empty_file_may_be_written(self, tmp_path):
        write_atomically(tmp_path / "log.txt", b"")
        assert (tmp_path / "log.txt").read_bytes() == b""


class TestFullDisk:
    def test_the_old_file_stays_and_no_temporary_does(self, small_disk):
        path = small_disk.folder / "a.json"
        write_json(path, "old")
        small_disk.fill()
        with pytest.raises(NotWritten, match=f"a.json could not be written: {FULL}"):
            write_atomically(path, bytes(50_000))
        assert path.read_text() == '"old"'
        assert small_disk.names() == {"a.json"}
        small_disk.free()
        write_json(path, "new")
        assert path.read_text() == '"new"'

    def test_a_model_stays_that_was_there_before(self, small_disk):
        path = small_disk.folder / "chain.npz"
        save_model(CHAIN, path)
        small_disk.fill()
        with pytest.raises(NotWritten, match=FULL):
            save_model(CHAIN, path)
        small_disk.free()
        np.testing.assert_array_equal(load_model(path).reward, CHAIN.reward)
        assert small_disk.names() == {"chain.npz"}

    def test_a_device_is_written_to_as_it_is(self):
        write_atomically("/dev/null", b"1")
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        with pytest.raises(NotWritten, match="/dev/full could not be written: No space left on device"):
            write_atomically("/dev/full", b"1")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("of one's\nown"), "of one's own"),
        (OSError(), "OSError"),
    ],
)
def test_every_refusal_has_a_reason_of_one_line(tmp_path, error, reason):
    assert reason_of(error) == reason
    with pytest.raises(NotWritten, match=f"a could not be written: {reason}$"), replacing(tmp_path / "a"):
        raise error


@pytest.mark.parametrize("lost", [1, 30, 300])
def test_an_archive_that_lost_its_end_or_a_bit_is_found(lost, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, v=np.arange(100.0))
    require_zip(path)
    data = path.read_bytes()
    path.write_bytes(data[:-lost])
    with pytest.raises(ValueError, match="can't be read"):
        require_zip(path)
    path.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    with pytest.raises(ValueError, match=re.escape("member v.npy is damaged") + "|can't be read"):
        require_zip(path)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3), np.ones((3, 2), np.float32).T, np.arange(12, dtype=np.uint8)[::3],
        np.zeros((2, 0, 3)), np.array([True, False]), np.ones(3, ">i8"), np.ones((1, 2), np.float16),
    ],
)  # fmt: skip
def test_npy_files_are_those_of_numpy(array):
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    parts = npy_parts(array)
    assert b"".join(map(bytes, parts)) == file.getvalue()
    assert size_of(*parts) == len(file.getvalue())
    assert sha256(*parts) == sha256(file.getvalue())

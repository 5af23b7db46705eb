"""Run directories: made, kept where they hold a run, taken back where nothing came of it."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rl_lab.runs import directory as directory_module
from rl_lab.runs.config import RunConfig
from rl_lab.runs.directory import (
    OF_A_RUN,
    RunDirectory,
    make_run_folder,
    read_summary,
    remove_failed_start,
    require_no_run,
    require_run_folder,
)
from rl_lab.storage import formats, segments
from rl_lab.storage.state_trees import Ring
from rl_lab.types import UsageError


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path, keep_last=2, keep_best=1)
    yield found
    found.close()


def save(directory, env_steps, score=None):
    directory.checkpoints.save(env_steps, {"weights": {"w": np.arange(3)}}, {"score": score})


class TestMaking:
    def test_default_name_says_what_runs(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = make_run_folder(RunConfig("module:lab/Grid-v0", seed=4), "dqn")
        assert folder.is_dir()
        assert folder.parent.name == "runs"
        assert folder.name.startswith("module_lab_Grid-v0-dqn-seed4-")

    def test_eight_processes_within_one_second_get_folders_of_their_own(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(directory_module.time, "strftime", lambda _: "20260101-000000")
        context = multiprocessing.get_context("fork")
        barrier, names = context.Barrier(8), context.SimpleQueue()

        def make():
            barrier.wait(120)
            names.put(make_run_folder(RunConfig("E"), "dqn").name)

        processes = [context.Process(target=make) for _ in range(8)]
        for process in processes:
            process.start()
        made = {names.get() for _ in processes}
        for process in processes:
            process.join()
        first = "E-dqn-seed0-20260101-000000"
        assert made == {first, *(f"{first}-{number}" for number in range(2, 9))}
        assert {path.name for path in Path("runs").iterdir()} == made

    def test_a_named_folder_may_be_there(self, tmp_path):
        assert make_run_folder(RunConfig("E", run_dir=str(tmp_path)), "dqn") == tmp_path

    def test_refusal_of_the_file_system_is_one_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="can't be made: Not a directory"):
            make_run_folder(RunConfig("E", run_dir=str(tmp_path / "file" / "run")), "dqn")


class TestOccupied:
    @pytest.mark.parametrize("name", OF_A_RUN)
    def test_any_part_of_a_run_occupies_a_folder(self, tmp_path, name):
        require_no_run(tmp_path)
        (tmp_path / name).write_text("")
        with pytest.raises(UsageError, match=f"already holds a run \\({name}"):
            require_no_run(tmp_path)

    def test_so_does_a_study(self, tmp_path):
        config = RunConfig("E", run_dir=str(tmp_path))
        require_run_folder(config)
        (tmp_path / "study.json").write_text("{}")
        with pytest.raises(
            UsageError, match=r"already holds a study \(study.json; allowed: an empty folder\)"
        ):
            require_run_folder(config)
        assert [path.name for path in tmp_path.iterdir()] == ["study.json"]

    def test_files_of_others_do_not(self, tmp_path):
        (tmp_path / "notes.txt").write_text("mine")
        require_no_run(tmp_path)

    def test_failed_start_is_taken_back_and_files_of_others_are_not(self, tmp_path, directory):
        for name in ("config.json", "notes.txt", ".lock"):
            (tmp_path / name).write_text("{}")
        directory.close()
        remove_failed_start(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("what", ["row", "checkpoint"])
    def test_run_that_came_to_something_is_kept(self, tmp_path, directory, what):
        if what == "row":
            directory.rows.row({"env_steps": 1})
        else:
            save(directory, 1)
        before = sorted(tmp_path.rglob("*"))
        remove_failed_start(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before


class TestCheckpoints:
    def test_there_is_none_before_the_first(self, directory):
        assert directory.load({}) is None

    def test_members_of_an_older_format_are_migrated(self, directory, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(formats, "FORMAT", 1)
            save(directory, 7)
        loaded = directory.load({1: lambda members: members | {"added": {}}, 2: dict})
        assert loaded.keys() == {"weights", "added"}

    @pytest.mark.parametrize("saved", [True, False])
    def test_a_resume_removes_what_a_kill_left(self, tmp_path, directory, saved):
        if saved:
            save(directory, 1)
        folder = tmp_path / "checkpoints" / "segments"
        folder.mkdir(parents=True, exist_ok=True)
        before = sorted(folder.iterdir())
        (folder / f"{'0' * 64}.npy").write_bytes(b"rows of a checkpoint that never came")
        assert (directory.load({}) is not None) == saved
        assert sorted(folder.iterdir()) == before

    def test_closing_waits_for_what_is_written_ahead(self, tmp_path, directory, monkeypatch):
        before = set(threading.enumerate())
        original = segments.write_atomically

        def slow(*args):
            time.sleep(0.05)
            original(*args)

        monkeypatch.setattr(segments, "write_atomically", slow)
        monkeypatch.setattr(segments, "AHEAD_BYTES", 1)
        monkeypatch.setattr(segments, "LEAST_BYTES", 1)
        directory.checkpoints.write_ahead(4, {"agent": {"ring": Ring(np.zeros((4, 2)), 4)}})
        directory.close()
        assert set(threading.enumerate()) <= before
        assert len(list(tmp_path.rglob("*.npy"))) == 1

    def test_first_score_is_the_best_and_equal_ones_are_not(self, directory):
        assert not directory.is_best(None)
        assert directory.is_best(-5.0)
        save(directory, 1, -5.0)
        assert [directory.is_best(score) for score in (-6.0, -5.0, -4.0)] == [False, False, True]

    def test_nothing_is_the_best_where_none_is_kept(self, tmp_path):
        directory = RunDirectory(tmp_path, keep_last=2, keep_best=0)
        assert not directory.is_best(1.0)
        directory.close()


def test_summary_says_that_a_run_is_finished(tmp_path, directory):
    assert read_summary(tmp_path) is None
    directory.write_summary({"env_steps": 4})
    assert read_summary(tmp_path) == json.loads((tmp_path / "summary.json").read_bytes()) == {"env_steps": 4}
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)

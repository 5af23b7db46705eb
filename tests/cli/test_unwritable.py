"""Every command refuses a place that takes no files: exit code 2, one line with path and reason, no work done."""

from __future__ import annotations

import subprocess
import sys

import pytest

from commands import call, require_refusal
from disks import FULL
from rl_lab.cli.benchmark import benchmark
from rl_lab.cli.compare import compare
from rl_lab.cli.export import export
from rl_lab.cli.record import record
from rl_lab.cli.solve import solve
from rl_lab.cli.torture import torture
from rl_lab.cli.train import train
from rl_lab.cli.verify import verify
from rl_lab.cli.watch import watch
from runs import learn

TABLE = ("--agent", "q-learning", "--env-id", "FrozenLake-v1")
QUICK = ("--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "0", "--total-steps", "100")
COMMANDS = {  # with the words before the place, and what the place's name ends in
    "train": (train, (*TABLE, *QUICK, "--run-dir"), ""),
    "compare": (compare, ("--env-id", "FrozenLake-v1", "--agents", "random", "--seeds", "1", "--out"), ""),
    "watch --video": (watch, ("RUN", "--video"), ".mp4"),
    "watch --gif": (watch, ("RUN", "--gif"), ".gif"),
    "export": (export, ("RUN", "--no-card", "--episodes", "1", "--out"), ""),
    "record": (record, ("RUN", "--out"), ""),
    "solve": (solve, ("--env-id", "FrozenLake-v1", "--out"), ".npz"),
    "benchmark": (benchmark, ("dp", "--json"), ""),
    "torture --out": (torture, ("--out",), ""),
    "torture --json": (torture, ("--out", "torture", "--json"), ""),
    "verify": (verify, ("--out",), ""),
}
PLACES = {
    "file/a": "folder|Not a directory",
    "/proc/a": "No such file",
    "n" * 300: "File name too long",
    "": "empty",
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "-dash"
    learn(folder, "random", "FrozenLake-v1", total_steps=20)
    return folder


@pytest.fixture
def no_work(monkeypatch):
    """Let everything that takes time fail."""

    def work(*args, **kwargs):
        raise AssertionError("work was done")

    for name in (
        "rl_lab.training.launch.problem_of", "rl_lab.studies.study.tasks_of", "rl_lab.training.loading.load_policy",
        "rl_lab.cli.record.load_policy", "rl_lab.cli.solve.model_of", "rl_lab.cli.benchmark.works_of",
        "rl_lab.cli.torture.learn", "subprocess.run",
    ):  # fmt: skip
        monkeypatch.setattr(name, work)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("place", "reason"), PLACES.items(), ids=["file", "proc", "long", "empty"])
@pytest.mark.parametrize("command", COMMANDS)
def test_is_refused_in_a_line_before_any_work(command, place, reason, run_dir, tmp_path, monkeypatch, capsys):
    function, words, ending = COMMANDS[command]
    if not place and ending:
        pytest.skip("a name with an ending isn't empty")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    outcome = call(capsys, function, *(run_dir if word == "RUN" else word for word in words), place + ending)
    require_refusal(outcome, place + ending)
    assert any(text in outcome[2] for text in reason.split("|"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestDashes:
    def test_a_run_directory_may_begin_with_one(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        code, _, err = call(
            capsys,
            train,
            *TABLE,
            *QUICK[:2],
            "--total-steps",
            "100",
            "--eval-episodes",
            "1",
            "--run-dir=-dash",
        )
        assert code == 0
        assert "warning" not in err
        assert (tmp_path / "-dash" / "videos" / "final.mp4").stat().st_size > 0

    def test_films_may_too(self, run_dir, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(run_dir.parent)
        words = ["--video=-f.mp4", "--gif=-g.gif", "--", "-dash"]
        code, out, _ = call(capsys, watch, *words)
        assert code == 0
        assert "-f.mp4" in out
        for name in ("-f.mp4", "-g.gif"):
            assert (run_dir.parent / name).stat().st_size > 0


def test_one_file_for_two_films_is_refused(run_dir, tmp_path, capsys):
    film = tmp_path / "a.gif"
    require_refusal(
        call(capsys, watch, run_dir, "--video", film, "--gif", film), str(film), "allowed: two files"
    )


class TestFullDisk:
    def test_solve_and_record_fail_in_one_line_and_leave_what_was_there(self, small_disk, run_dir, capsys):
        (small_disk.folder / "a.npz").write_bytes(b"old")
        small_disk.fill()
        solved = call(capsys, solve, "--env-id", "FrozenLake-v1", "--out", small_disk.folder / "a.npz")
        recorded = call(capsys, record, run_dir, "--episodes", "3", "--out", small_disk.folder / "data")
        small_disk.free()
        for code, _, err in (solved, recorded):
            assert code == 1
            assert err.count("\n") == 1
            assert any(text in err for text in FULL.strip("()").split("|"))
        assert (small_disk.folder / "a.npz").read_bytes() == b"old"
        assert small_disk.names() == {"a.npz"}

    @pytest.mark.parametrize(
        "words", [pytest.param("--print-completion bash", marks=pytest.mark.long), "agents"]
    )
    def test_what_is_printed_to_it_is_a_failure_in_one_line(self, words):
        with open("/dev/full", "w") as full:
            command = [sys.executable, "-m", "rl_lab", *words.split()]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.endswith("No space left on device\n")
        assert done.stderr.count("\n") == 1

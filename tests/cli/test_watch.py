"""The command `watch`: films and windows show the frames of whole episodes; wrong input is one line."""

from __future__ import annotations

import os

import imageio.v3 as imageio
import pytest

from commands import call, require_refusal, run_script
from rl_lab.cli.watch import watch
from rl_lab.evaluation.video import LiveWindow
from rl_lab.runs.rows import read_episodes
from runs import learn

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


class TestRefuses:
    def test_watching_an_empty_directory(self, capsys, tmp_path):
        require_refusal(call(capsys, watch, tmp_path), str(tmp_path), "config.json")

    def test_watching_a_run_that_has_saved_nothing(self, capsys, run_dir, tmp_path):
        (tmp_path / "config.json").write_bytes((run_dir / "config.json").read_bytes())
        require_refusal(call(capsys, watch, tmp_path), "no checkpoint")

    @pytest.mark.parametrize("suffix", [".avi", "", ".MOV"])
    def test_a_video_of_another_kind(self, capsys, run_dir, tmp_path, suffix):
        file = tmp_path / f"film{suffix}"
        require_refusal(call(capsys, watch, run_dir, "--video", file), str(file), ".mp4", ".gif")
        assert not file.exists()

    @pytest.mark.parametrize("row", [-1, 10_000])
    def test_a_training_episode_that_is_not_there(self, capsys, run_dir, tmp_path, row):
        words = [run_dir, "--training-episode", row, "--gif", tmp_path / "a.gif"]
        require_refusal(call(capsys, watch, *words), str(row), "allowed: 0 to")

    def test_a_window_without_a_display(self, capsys, run_dir, monkeypatch):
        for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
        named = ["--human", "nothing was shown", "no display", "--video"]
        require_refusal(call(capsys, watch, run_dir, "--human"), *named)

    def test_a_display_that_does_not_answer(self, run_dir):
        found = run_script("watch.py", run_dir, "--human", SDL_VIDEODRIVER="x11", DISPLAY=":987")
        require_refusal((found.returncode, found.stdout, found.stderr), "nothing was shown", "x11")

    def test_no_episodes(self, capsys, run_dir):
        require_refusal(call(capsys, watch, run_dir, "--episodes", "0"), "episodes", "got 0")

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--human", "--video", "a.mp4"], ["--human", "without --video a.mp4"]),
            (["--human", "--video", "a.mp4", "--gif", "a.gif"], ["without --video a.mp4 and --gif a.gif"]),
            (["--training-episode", "0", "--seed", "0"], ["--training-episode 0", "without --seed 0"]),
            (["--training-episode", "0", "--episodes", "2"], ["without --episodes 2"]),
            (["--training-episode", "0", "--best"], ["without --best"]),
        ],
    )
    def test_options_of_which_one_would_be_ignored(
        self, capsys, run_dir, tmp_path, monkeypatch, words, named
    ):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, watch, run_dir, *words), *named)
        assert list(tmp_path.iterdir()) == []


class TestWatch:
    def test_writes_mp4_and_gif_with_the_same_frames(self, capsys, run_dir, tmp_path):
        mp4, gif = tmp_path / "a.mp4", tmp_path / "b.gif"
        code, out, err = call(capsys, watch, run_dir, "--video", mp4, "--gif", gif)
        assert (code, err) == (0, "")
        count = int(out.split()[0])
        assert count >= 2
        assert len(list(imageio.imiter(mp4))) == count
        assert mp4.stat().st_size > 0
        assert gif.stat().st_size > 0

    def test_without_a_file_the_video_lies_in_the_run_directory(self, capsys, run_dir):
        assert call(capsys, watch, run_dir)[0] == 0
        assert (run_dir / "videos" / "watch.mp4").stat().st_size > 0

    def test_a_window_takes_the_frames_without_a_display(self, capsys, run_dir, monkeypatch):
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        shown = []
        monkeypatch.setattr(LiveWindow, "add", lambda self, frame: shown.append(frame.shape) or True)
        code, out, _ = call(capsys, watch, run_dir, "--human")
        assert code == 0
        assert len(shown) == int(out.split()[0]) >= 2

    def test_a_real_window_of_the_dummy_driver_shows_an_episode(self, run_dir, tmp_path):
        learn(tmp_path, "random", "FrozenLake-v1", total_steps=10)
        done = run_script("watch.py", tmp_path, "--human", SDL_VIDEODRIVER="dummy")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[0]) >= 2
        assert done.stdout.endswith(" frames, not shown: SDL_VIDEODRIVER is dummy\n")

    @pytest.mark.parametrize("row", [0, 5])
    def test_a_training_episode_has_the_frames_of_its_length(self, capsys, run_dir, tmp_path, row):
        words = [run_dir, "--training-episode", row, "--gif", tmp_path / "a.gif"]
        code, out, _ = call(capsys, watch, *words)
        assert code == 0
        assert int(out.split()[0]) == read_episodes(run_dir)[row]["length"] + 1  # the first observation too

    def test_more_episodes_and_another_seed_show_other_frames(self, capsys, run_dir, tmp_path):
        counts = []
        for words in (["--episodes", "1"], ["--episodes", "3"], ["--episodes", "3", "--seed", "9"]):
            _, out, _ = call(capsys, watch, run_dir, *words, "--gif", tmp_path / "a.gif")
            counts.append(int(out.split()[0]))
        assert counts[0] < counts[1]
        assert counts[1] != counts[2]

    def test_an_episode_that_is_cut_off_is_told_of(self, capsys, run_dir, tmp_path, monkeypatch):
        monkeypatch.setattr("rl_lab.evaluation.watch.WATCHED_STEPS", 1)
        code, out, _ = call(capsys, watch, run_dir, "--episodes", "2", "--gif", tmp_path / "a.gif")
        assert code == 0
        assert out == f"4 frames, {tmp_path / 'a.gif'}, 2 of 2 episodes cut off after 1 steps\n"

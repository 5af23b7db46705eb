"""The command `watch`: films and windows show the frames of whole episodes; wrong input is one line."""

from __future__ import annotations

import os
import re
import shutil

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

    def test_two_agents_in_one_film(self, capsys, run_dir, tmp_path):
        film = tmp_path / "film.gif"
        require_refusal(
            call(capsys, watch, run_dir, "random", "--gif", film), str(run_dir), "'random'", "--web"
        )
        assert not film.exists()

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


class TestHelp:
    @pytest.mark.parametrize(
        ("words", "boxes"),
        [
            (["--help"], ["policy", "output", "episode", "drawing", "runless policy"]),
            (["--web", "--help"], ["policy", "page", "runless policy"]),
        ],
    )
    def test_options_stand_in_groups(self, capsys, words, boxes):
        with pytest.raises(SystemExit):
            watch(words)
        told = capsys.readouterr().out
        titles = re.findall(r"^\W*([a-z ]+) options \W+$", told, re.MULTILINE)
        assert titles == boxes
        assert "{None}" not in told

    def test_all_options_are_named_with_their_opposites(self, capsys):
        with pytest.raises(SystemExit):
            watch(["--help-all"])
        assert "--no-overlay" in capsys.readouterr().out


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


class TestFilesAndEpisodes:
    def test_a_sheet_and_a_film_with_overlays(self, capsys, run_dir, tmp_path):
        words = ["--sheet", tmp_path / "a.png", "--gif", tmp_path / "a.gif", "--overlay"]
        code, out, err = call(capsys, watch, run_dir, *words)
        assert (code, err) == (0, "")
        assert out.endswith(f" frames, {tmp_path / 'a.gif'}, {tmp_path / 'a.png'}\n")
        assert imageio.imread(tmp_path / "a.png").ndim == 3
        assert not (run_dir / "videos" / "a.mp4").exists()

    def test_training_episodes_are_checked_and_that_is_said(self, capsys, run_dir, tmp_path):
        episodes = read_episodes(run_dir)
        code, out, err = call(
            capsys, watch, run_dir, "--training-episode", "last", "--gif", tmp_path / "a.gif"
        )
        assert (code, err) == (0, "")
        last = episodes[-1]
        said = (
            f"training episode {len(episodes) - 1}: return {last['return']:.6g} and length {last['length']}"
        )
        assert out.splitlines()[1] == f"{said} are those in episodes.csv"
        words = ["--training-episode", "every:20", "--gif", tmp_path / "a.gif"]
        _, out, _ = call(capsys, watch, run_dir, *words)
        chosen = episodes[::20]
        assert out.splitlines()[0].startswith(f"{sum(e['length'] + 1 for e in chosen)} frames")
        assert out.splitlines()[1].startswith(
            f"{len(chosen)} training episodes: their returns and lengths are"
        )

    def test_an_episode_that_does_not_happen_again_is_an_error_after_its_film(
        self, capsys, run_dir, tmp_path
    ):
        folder = tmp_path / "run"
        shutil.copytree(run_dir, folder)
        rows = (folder / "episodes.csv").read_text().splitlines()
        cells = rows[1].split(",")
        cells[4] = "0.5"  # its return
        (folder / "episodes.csv").write_text("\n".join([rows[0], ",".join(cells), *rows[2:]]) + "\n")
        words = ["--training-episode", "0", "--gif", tmp_path / "a.gif"]
        code, out, err = call(capsys, watch, folder, *words)
        assert code == 1
        assert (tmp_path / "a.gif").exists()
        assert out.count("\n") == 1
        assert err.startswith(
            "error: training episode 0 did not happen again: return 0.0 instead of 0.5; FrozenLake-v1"
        )
        assert err.count("\n") == 1

    def test_progress_and_a_single_checkpoint(self, capsys, run_dir, tmp_path):
        code, out, _ = call(capsys, watch, run_dir, "--progress", tmp_path / "p.gif")
        steps = [int(step) for step in out.split("at steps ")[1].split(", ")]
        assert code == 0
        assert steps[-1] == 400
        assert (tmp_path / "p.gif").exists()
        for step in steps:
            words = ["--checkpoint", step, "--gif", tmp_path / "a.gif"]
            assert call(capsys, watch, run_dir, *words)[0] == 0
        require_refusal(
            call(capsys, watch, run_dir, "--checkpoint", 7), "no checkpoint at step 7", str(steps[0])
        )

    def test_random_plays_any_environment(self, capsys, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        words = ["--env-id", "FrozenLake-v1", "--env-kwargs", "is_slippery=false", "--seed", 3]
        code, out, _ = call(capsys, watch, "random", *words)
        assert code == 0
        assert out.split()[2] == "videos/watch.mp4"
        assert (tmp_path / "videos" / "watch.mp4").exists()

    def test_a_model_of_sb3_s_says_that_its_pickles_were_run(self, capsys, tmp_path):
        from stable_baselines3 import PPO

        PPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "m.zip")
        words = [tmp_path / "m.zip", "--env-id", "CartPole-v1", "--gif", tmp_path / "a.gif"]
        require_refusal(call(capsys, watch, *words), "m.zip", "whatever code", "--trust-pickles")
        code, out, err = call(capsys, watch, *words, "--trust-pickles", "--algo", "ppo")
        assert (code, err) == (0, "")
        assert out.splitlines()[1] == "SB3's ppo on CartPole-v1: from m.zip, whose pickles were run"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--human", "--sheet", "a.png"], ["without --sheet a.png"]),
            (["--human", "--progress", "a.gif"], ["without --progress a.gif"]),
            (["--progress", "a.gif", "--video", "a.mp4"], ["without --video a.mp4"]),
            (["--progress", "a.gif", "--best", "--episodes", "2"], ["without --episodes 2 and --best"]),
            (["--progress", "a.gif", "--training-episode", "0"], ["without --training-episode 0"]),
            (["--progress", "a.gif", "--env-id", "X"], ["without --env-id X"]),
            (["--progress", "a.txt"], ["a.txt", ".mp4"]),
            (["--best", "--checkpoint", "5"], ["without --checkpoint 5"]),
            (["--training-episode", "best", "--checkpoint", "5"], ["without --checkpoint 5"]),
            (["--training-episode", "best", "--trust-pickles"], ["without --trust-pickles"]),
            (["--training-episode", "middle"], ["middle", "best, worst, last"]),
            (["--env-id", "CartPole-v1"], ["environment of its own"]),
            (["--env-kwargs", "a=1"], ["environment of its own"]),
            (["--trust-pickles"], ["is no model file"]),
            (["--algo", "dqn"], ["is no model file"]),
            (["--sheet", "a.gif"], ["a.gif", ".png"]),
            (["--seed", "-1"], ["--seed -1"]),
        ],
    )
    def test_options_that_contradict_each_other(self, capsys, run_dir, tmp_path, monkeypatch, words, named):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, watch, run_dir, *words), *named)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("word", ["random", "human"])
    def test_words_without_what_they_need(self, capsys, tmp_path, monkeypatch, word):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, watch, word), word, "allowed")
        require_refusal(call(capsys, watch, word, "--env-id", "CartPole-v1", "--best"), word, "allowed")
        words = [word, "--env-id", "CartPole-v1", "--training-episode", "0"]
        require_refusal(call(capsys, watch, *words), "allowed")
        assert list(tmp_path.iterdir()) == []

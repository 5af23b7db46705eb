"""The command lines: wrong input is one line and exit code 2, help names everything, watching shows frames."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as imageio
import pytest

from rl_lab.agents.dqn import Config
from rl_lab.cli import parsing as cli
from rl_lab.evaluation.video import LiveWindow
from rl_lab.runs.config import RunConfig, parse_pairs, split_fields
from rl_lab.runs.description import read_description
from rl_lab.runs.rows import read_episodes
from rl_lab.training.registry import agent_names, make_learner
from runs import learn

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TABLE = ["--agent", "q-learning", "--env-id", "FrozenLake-v1"]
QUICK = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2"]


def call(capsys, command, *words: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as left:
        cli.main(command, [str(word) for word in words])
    out, err = capsys.readouterr()
    return left.value.code or 0, out, err


def require_refusal(outcome: tuple[int, str, str], *named: str) -> None:
    """Exactly one line on stderr that names the value and what is allowed, and exit code 2."""
    code, out, err = outcome
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for text in named:
        assert text in err


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A finished run with a few training episodes."""
    folder = tmp_path_factory.mktemp("run")
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=400, seed=2, log_every_steps=100)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class TestTrainRefuses:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agent", "sarsa-max", "--env-id", "FrozenLake-v1"], ["'sarsa-max'", "q-learning", "dqn"]),
            (["--agent", "q-learnin", "--env-id", "FrozenLake-v1"], ["'q-learnin'", "close: q-learning"]),
            (["--agent", "q-learning", "--env-id", "FrozenLak-v1"], ["'FrozenLak-v1'", "FrozenLake-v1"]),
            (["--agent", "q-learning", "--env-id", "lab/Nothing-v0"], ["'lab/Nothing-v0'"]),
            (["--agent", "q-learning", "--env-id", "no_such_module:Env-v0"], ["'no_such_module:Env-v0'"]),
            (["--agent", "dqn", "--env-id", "Pendulum-v1"], ["Pendulum-v1", "Discrete", "Box(-2.0, 2.0"]),
            (["--agent", "q-learning", "--env-id", "CartPole-v1"], ["CartPole-v1", "Discrete"]),
            (["--agent", "value-iteration", "--env-id", "CartPole-v1"], ["CartPole-v1", "finite MDP"]),
            (
                ["--agent", "dqn", "--env-id", "CartPole-v1", "--learning-rate", "-0.1"],
                ["learning_rate", "-0.1"],
            ),
            (
                ["--agent", "dqn", "--env-id", "CartPole-v1", "--learning-rate", "nan"],
                ["learning_rate", "nan"],
            ),
            ([*TABLE, "--learning-rate", "fast"], ["--learning-rate", "'fast'"]),
            ([*TABLE, "--gamma", "1.5"], ["gamma", "1.5", "between 0.0 and 1.0"]),
            ([*TABLE, "--total-steps", "many"], ["--total-steps", "'many'"]),
            ([*TABLE, "--total-steps", "0"], ["total_steps", "at least 1", "got 0"]),
            ([*TABLE, "--num-envs", "0"], ["num_envs", "at least 1", "got 0"]),
            ([*TABLE, "--seed", "-1"], ["seed", "at least 0", "got -1"]),
            ([*TABLE, "--learning-rat", "0.1"], ["--learning-rat", "--learning-rate"]),
            ([*TABLE, "--no-such-option"], ["--no-such-option"]),
            ([*TABLE, "--device", "tpu"], ["tpu", "cpu", "cuda"]),
            ([*TABLE, "--wandb", "sometimes"], ["sometimes", "offline"]),
            ([*TABLE, "--env-kwargs", "map_name=5x5"], ["map_name", "5x5"]),
            ([*TABLE, "--env-kwargs", "nonsense=1"], ["nonsense"]),
            ([*TABLE, "--env-kwargs", "map_name"], ["map_name", "name=value"]),
            ([*TABLE, "--preset", "fast"], ["'fast'", "allowed"]),
            (
                ["--agent", "dqn", "--env-id", "CartPole-v1", "--preset", "fast"],
                ["'fast'", "zoo:CartPole-v1"],
            ),
            ([*TABLE, "--preprocess", "atari"], ["'FrozenLake-v1'"]),
            ([*TABLE, "--preprocess", "pixels"], ["pixels", "atari"]),
            (["--agent", "q-learning"], ["--env-id"]),
            (["--env-id", "FrozenLake-v1"], ["--agent", "q-learning"]),
            ([], ["--agent"]),
        ],
        ids=lambda value: " ".join(value)[-60:] or "nothing",
    )
    def test_in_one_line(self, capsys, tmp_path, monkeypatch, words, named):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, cli.train, *words), *named)
        assert list(tmp_path.rglob("*.json")) == []  # nothing that looks like a run is left

    def test_a_run_directory_that_holds_another_run(self, capsys, run_dir):
        before = snapshot(run_dir)
        require_refusal(
            call(capsys, cli.train, *TABLE, *QUICK, "--run-dir", run_dir), str(run_dir), "--resume"
        )
        assert snapshot(run_dir) == before

    def test_a_run_directory_that_is_a_file(self, capsys, tmp_path):
        file = tmp_path / "file"
        file.write_text("mine")
        require_refusal(call(capsys, cli.train, *TABLE, *QUICK, "--run-dir", file), str(file))
        assert file.read_text() == "mine"

    def test_resuming_without_a_folder_or_a_run(self, capsys, tmp_path):
        require_refusal(call(capsys, cli.train, "--resume"), "--run-dir")
        require_refusal(
            call(capsys, cli.train, "--resume", "--run-dir", tmp_path), str(tmp_path), "config.json"
        )
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--seed", "3"], ["seed", "3", "2"]),
            (["--total-steps", "800"], ["total_steps", "800", "400"]),
            (["--learning-rate", "0.25"], ["learning_rate", "0.25", "0.5"]),
            (["--env-id", "Taxi-v4"], ["env_id", "Taxi-v4", "FrozenLake-v1"]),
        ],
    )
    def test_resuming_with_another_value(self, capsys, run_dir, words, named):
        before = snapshot(run_dir)
        require_refusal(call(capsys, cli.train, "--resume", "--run-dir", run_dir, *words), *named)
        assert snapshot(run_dir) == before

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            (None, ["fields.yaml", "No such file"]),
            ("total_steps: [1", ["fields.yaml", "not YAML"]),
            ("- 1\n- 2", ["fields.yaml", "name: value pairs", "list"]),
            ("nonsense: 1", ["'nonsense'"]),
            ("gamma: 7", ["gamma", "7"]),
            ("total_steps: plenty", ["total_steps", "plenty"]),
            ("gamma: !!python/object/apply:os.getcwd []", ["fields.yaml"]),
        ],
    )
    def test_a_config_file(self, capsys, tmp_path, text, named):
        file = tmp_path / "fields.yaml"
        if text is not None:
            file.write_text(text)
        words = [*TABLE, *QUICK, "--run-dir", tmp_path / "run", "--config", file]
        require_refusal(call(capsys, cli.train, *words), *named)
        assert not (tmp_path / "run" / "config.json").exists()


class TestWatchAndCompareRefuse:
    def test_watching_an_empty_directory(self, capsys, tmp_path):
        require_refusal(call(capsys, cli.watch, tmp_path), str(tmp_path), "config.json")

    def test_watching_a_run_that_has_saved_nothing(self, capsys, run_dir, tmp_path):
        (tmp_path / "config.json").write_bytes((run_dir / "config.json").read_bytes())
        require_refusal(call(capsys, cli.watch, tmp_path), "no checkpoint")

    @pytest.mark.parametrize("suffix", [".avi", "", ".MOV"])
    def test_a_video_of_another_kind(self, capsys, run_dir, tmp_path, suffix):
        file = tmp_path / f"film{suffix}"
        require_refusal(call(capsys, cli.watch, run_dir, "--video", file), str(file), ".mp4", ".gif")
        assert not file.exists()

    @pytest.mark.parametrize("row", [-1, 10_000])
    def test_a_training_episode_that_is_not_there(self, capsys, run_dir, tmp_path, row):
        words = [run_dir, "--training-episode", row, "--gif", tmp_path / "a.gif"]
        require_refusal(call(capsys, cli.watch, *words), str(row), "allowed: 0 to")

    def test_no_episodes(self, capsys, run_dir):
        require_refusal(call(capsys, cli.watch, run_dir, "--episodes", "0"), "episodes", "got 0")

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agents", "nobody"], ["'nobody'"]),
            (["--agents", "random", "q-learning"], ["CartPole-v1", "Discrete"]),
            (["--agents", "random", "--set", "gamma"], ["'gamma'", "name=value"]),
            (["--agents", "random", "--set", "nonsense=1"], ["'nonsense'"]),
            (["--agents", "dqn", "--set", "dqn:learning_rate=-1"], ["learning_rate", "-1"]),
            (["--agents", "dqn", "--set", "learning_rate=quick"], ["learning_rate", "quick"]),
            (["--agents", "random", "--seeds", "0"], ["seeds", "got 0"]),
            (["--agents", "random", "--workers", "0"], ["workers", "got 0"]),
            (["--agents", "random", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
            ([], ["--agents"]),
        ],
        ids=lambda value: " ".join(value) or "nobody",
    )
    def test_studies(self, capsys, tmp_path, words, named):
        require_refusal(
            call(capsys, cli.compare, "--env-id", "CartPole-v1", *words, "--out", tmp_path / "out"), *named
        )
        assert not (tmp_path / "out").exists()


def run_script(name: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


class TestScripts:
    def test_a_refusal_by_the_real_script_is_one_line(self):
        done = run_script("train.py", "--agent", "q-learning", "--env-id", "FrozenLak-v1")
        require_refusal((done.returncode, done.stdout, done.stderr), "'FrozenLak-v1'")

    @pytest.mark.parametrize("agent", ["dqn", "ppo", "clone"])
    def test_a_folder_that_torch_cannot_have_is_named_before_anything_is_written(self, tmp_path, agent):
        (tmp_path / "file").touch()
        words = ["--agent", agent, "--env-id", "FrozenLake-v1", "--run-dir", tmp_path / "run"]
        words += ["--oracle"] if agent == "clone" else []
        done = run_script("train.py", *words, TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "file"))
        require_refusal(
            (done.returncode, done.stdout, done.stderr), "TORCHINDUCTOR_CACHE_DIR", "file'", "allowed"
        )
        assert not (tmp_path / "run").exists()

    def test_training_tells_plain_lines_without_a_terminal_and_leaves_a_run(self, tmp_path):
        done = run_script("train.py", *TABLE, *QUICK, "--total-steps", "1000", "--run-dir", tmp_path / "run")
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        assert "\r" not in done.stderr
        assert "\x1b" not in done.stderr
        assert 8 <= len(lines) <= 12  # one a tenth of the budget
        assert all("/1000 steps" in line and "steps/s" in line for line in lines)
        assert "1000 environment steps" in done.stdout
        assert str(tmp_path / "run") in done.stdout
        assert json.loads((tmp_path / "run" / "summary.json").read_bytes())["env_steps"] == 1000

    def test_an_error_is_a_line_of_cause_first_and_exit_code_1(self, capsys):
        def broken(argv):
            raise RuntimeError("first line\nsecond line")

        code, _, err = call(capsys, broken)
        assert code == 1
        assert err.splitlines()[0] == "error: RuntimeError: first line second line"


class TestHelp:
    @pytest.mark.parametrize("name", agent_names())
    def test_names_every_field_of_agent_and_run_with_its_default(self, capsys, monkeypatch, name):
        monkeypatch.setenv("COLUMNS", "100")  # in one column
        code, out, _ = call(capsys, cli.train, "--agent", name, "--help")
        assert code == 0
        learner = make_learner(name)
        fields = [*dataclasses.fields(learner.config), *dataclasses.fields(RunConfig)]
        text = re.sub(r", --no-[\w-]+", "", " ".join(out.replace("│", " ").split()))
        for field in fields:
            option = "--" + field.name.replace("_", "-")
            assert option in text, f"{option} is missing"
        for field in dataclasses.fields(learner.config):
            told = self._told(text, "--" + field.name.replace("_", "-"))
            default = getattr(learner.config, field.name)
            words = [str(v) for v in default] if isinstance(default, tuple) else [str(default)]
            assert f"(default: {' '.join(words)})" in told, f"{field.name}: {told}"
        for name in ("total_steps", "num_envs", "seed", "eval_episodes", "eval_envs", "keep_checkpoints"):
            told = self._told(text, "--" + name.replace("_", "-"))
            assert f"(default: {getattr(RunConfig, name)})" in told

    @staticmethod
    def _told(text: str, option: str) -> str:
        """What stands between an option and the next one."""
        return text.split(f" {option} ", 1)[1].split(" --")[0]

    @pytest.mark.parametrize("command", [cli.train, cli.compare, cli.watch])
    def test_works_without_any_argument(self, capsys, command):
        code, out, err = call(capsys, command, "--help")
        assert (code, err) == (0, "")
        assert "usage" in out.lower()


class TestConfigs:
    def test_a_config_of_a_run_makes_the_same_run_again(self, capsys, run_dir, tmp_path):
        words = ["--agent", "q-learning", "--config", run_dir / "config.json", "--run-dir", tmp_path]
        assert call(capsys, cli.train, *words)[0] == 0
        ours, theirs = (json.loads((d / "summary.json").read_bytes()) for d in (tmp_path, run_dir))
        assert ours["weights_sha256"] == theirs["weights_sha256"]
        assert ours["config_sha256"] == theirs["config_sha256"]

    @pytest.mark.parametrize(
        ("said", "meant"), [("yes", "yes"), ("no", "no"), ("auto", "auto"), ("true", "yes")]
    )
    def test_yes_and_no_are_words_where_a_field_takes_words(self, tmp_path, said, meant):
        file = tmp_path / "fields.yaml"
        file.write_text(f"compile: {said}\ndouble: yes\nenv_kwargs: {{is_slippery: no}}\n")
        words = ["--agent", "dqn", "--env-id", "FrozenLake-v1", "--config", str(file)]
        assert cli.parse_train(words)[1]["compile"] == meant
        fields = parse_pairs([f"compile={said}", "double=yes"]) | {
            "env_kwargs": parse_pairs(["is_slippery=no"])
        }
        of_run, of_agent = split_fields(fields, Config)
        assert of_agent == {"compile": meant, "double": True}
        assert of_run == {"env_kwargs": {"is_slippery": False}}  # an environment's are booleans

    def test_options_go_before_presets_and_presets_before_files(self, tmp_path):
        file = tmp_path / "fields.yaml"
        file.write_text("batch_size: 7\ngamma: 0.5\nlearning_rate: 0.9\nhidden: [3]")
        words = [
            "--agent",
            "dqn",
            "--env-id",
            "CartPole-v1",
            "--preset",
            "zoo:CartPole-v1",
            "--config",
            str(file),
        ]
        _, fields = cli.parse_train([*words, "--learning-rate", "0.25"])
        assert (fields["learning_rate"], fields["batch_size"], fields["hidden"]) == (0.25, 64, (256, 256))
        assert fields["total_steps"] == 50_000

    def test_fields_of_the_command_line_reach_the_run(self, capsys, tmp_path):
        words = [
            *TABLE,
            *QUICK,
            "--total-steps",
            "50",
            "--num-envs",
            "2",
            "--gamma",
            "0.5",
            "--run-dir",
            tmp_path,
        ]
        assert call(capsys, cli.train, *words, "--env-kwargs", "map_name=8x8", "is_slippery=false")[0] == 0
        found = read_description(tmp_path)
        assert (found.config.num_envs, found.fields["gamma"], found.eval_gamma) == (2, 0.5, 0.5)
        assert found.config.env_kwargs == {"map_name": "8x8", "is_slippery": False}


class TestWatch:
    def test_writes_mp4_and_gif_with_the_same_frames(self, capsys, run_dir, tmp_path):
        mp4, gif = tmp_path / "a.mp4", tmp_path / "b.gif"
        code, out, err = call(capsys, cli.watch, run_dir, "--video", mp4, "--gif", gif)
        assert (code, err) == (0, "")
        count = int(out.split()[0])
        assert count >= 2
        assert len(list(imageio.imiter(mp4))) == count
        assert mp4.stat().st_size > 0
        assert gif.stat().st_size > 0

    def test_without_a_file_the_video_lies_in_the_run_directory(self, capsys, run_dir):
        assert call(capsys, cli.watch, run_dir)[0] == 0
        assert (run_dir / "videos" / "watch.mp4").stat().st_size > 0

    def test_a_window_takes_the_frames_without_a_display(self, capsys, run_dir, monkeypatch):
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        shown = []
        monkeypatch.setattr(LiveWindow, "add", lambda self, frame: shown.append(frame.shape) or True)
        code, out, _ = call(capsys, cli.watch, run_dir, "--human")
        assert code == 0
        assert len(shown) == int(out.split()[0]) >= 2

    def test_a_real_window_of_the_dummy_driver_shows_an_episode(self, run_dir, tmp_path):
        learn(tmp_path, "random", "FrozenLake-v1", total_steps=10)
        done = run_script("watch.py", tmp_path, "--human", SDL_VIDEODRIVER="dummy")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[0]) >= 2

    @pytest.mark.parametrize("row", [0, 5])
    def test_a_training_episode_has_the_frames_of_its_length(self, capsys, run_dir, tmp_path, row):
        words = [run_dir, "--training-episode", row, "--gif", tmp_path / "a.gif"]
        code, out, _ = call(capsys, cli.watch, *words)
        assert code == 0
        assert int(out.split()[0]) == read_episodes(run_dir)[row]["length"] + 1  # the first observation too

    def test_more_episodes_and_another_seed_show_other_frames(self, capsys, run_dir, tmp_path):
        counts = []
        for words in (["--episodes", "1"], ["--episodes", "3"], ["--episodes", "3", "--seed", "9"]):
            _, out, _ = call(capsys, cli.watch, run_dir, *words, "--gif", tmp_path / "a.gif")
            counts.append(int(out.split()[0]))
        assert counts[0] < counts[1]
        assert counts[1] != counts[2]

"""The command `train`: wrong input is one line and exit code 2, help names every field, and fields reach the run."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re

import pytest

from commands import QUICK, TABLE, call, require_refusal, run_script, snapshot
from rl_lab.agents.dqn import Config
from rl_lab.cli.train import parse_train, train
from rl_lab.runs.config import RunConfig, parse_pairs, split_fields
from rl_lab.runs.signals import STOPPED
from rl_lab.training.registry import agent_names, config_of, presets_of
from runs import asking_to_stop


class TestTrainRefuses:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agent", "magic", "--env-id", "FrozenLake-v1"], ["'magic'", "q-learning", "dqn"]),
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
            ([*TABLE, "--total-steps", "1.5"], ["--total-steps", "'1.5' is not a whole number"]),
            ([*TABLE, "--env-kwargs", "desc=[FF, FG]"], ["has no start"]),
            ([*TABLE, "--env-kwargs", "desc=[SFF, FG]"], ["rows of unequal length: [3, 2]"]),
            ([*TABLE, "--total-steps", "0"], ["total_steps", "at least 1", "got 0"]),
            ([*TABLE, "--num-envs", "0"], ["num_envs", "at least 1", "got 0"]),
            ([*TABLE, "--stall-seconds", "0"], ["stall_seconds", "greater than 0", "got 0"]),
            ([*TABLE, "--seed", "-1"], ["seed", "at least 0", "got -1"]),
            ([*TABLE, "--learning-rat", "0.1"], ["--learning-rat", "--learning-rate"]),
            ([*TABLE, "--no-such-option"], ["--no-such-option"]),
            ([*TABLE, "--device", "tpu"], ["tpu", "cpu", "cuda"]),
            ([*TABLE, "--wandb", "sometimes"], ["'sometimes' (allowed: disabled, offline, online)"]),
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
        require_refusal(call(capsys, train, *words), *named)
        assert list(tmp_path.rglob("*.json")) == []  # nothing that looks like a run is left

    def test_a_run_directory_that_holds_another_run(self, capsys, run_dir):
        before = snapshot(run_dir)
        require_refusal(call(capsys, train, *TABLE, *QUICK, "--run-dir", run_dir), str(run_dir), "--resume")
        assert snapshot(run_dir) == before

    def test_a_run_directory_that_is_a_file(self, capsys, tmp_path):
        file = tmp_path / "file"
        file.write_text("mine")
        require_refusal(call(capsys, train, *TABLE, *QUICK, "--run-dir", file), str(file))
        assert file.read_text() == "mine"

    def test_resuming_without_a_folder_or_a_run(self, capsys, tmp_path):
        require_refusal(call(capsys, train, "--resume"), "--run-dir")
        require_refusal(call(capsys, train, "--resume", "--run-dir", tmp_path), str(tmp_path), "config.json")
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
        require_refusal(call(capsys, train, "--resume", "--run-dir", run_dir, *words), *named)
        assert snapshot(run_dir) == before

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            (None, ["fields.yaml", "No such file"]),
            ("total_steps: [1", ["fields.yaml", "not YAML"]),
            ("- 1\n- 2", ["fields.yaml", "name: value pairs", "[1, 2]"]),
            ("nonsense: 1", ["'nonsense'"]),
            ("gamma: 7", ["gamma", "7"]),
            ("total_steps: plenty", ["total_steps", "plenty"]),
            (
                "{config_sha256: 0, format: 1, env_id: 3, fields: {}}",
                ["fields.yaml", "damaged", "env_id", "3"],
            ),
            ("{config_sha256: 0, format: one, env_id: a, fields: {}}", ["fields.yaml", "damaged"]),
            ("gamma: !!python/object/apply:os.getcwd []", ["fields.yaml"]),
        ],
    )
    def test_a_config_file(self, capsys, tmp_path, text, named):
        file = tmp_path / "fields.yaml"
        if text is not None:
            file.write_text(text)
        words = [*TABLE, *QUICK, "--run-dir", tmp_path / "run", "--config", file]
        require_refusal(call(capsys, train, *words), *named)
        assert not (tmp_path / "run" / "config.json").exists()


class TestScript:
    def test_a_refusal_by_the_real_script_is_one_line(self):
        done = run_script("train.py", "--agent", "q-learning", "--env-id", "FrozenLak-v1")
        require_refusal((done.returncode, done.stdout, done.stderr), "'FrozenLak-v1'")

    @pytest.mark.parametrize(
        "agent", ["dqn", *(pytest.param(name, marks=pytest.mark.long) for name in ("ppo", "clone"))]
    )
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
        assert lines.pop() == "drawing pictures"
        assert 8 <= len(lines) <= 12  # one a tenth of the budget
        assert all("/1000 steps" in line and "steps/s" in line for line in lines)
        assert "1000 environment steps" in done.stdout
        assert str(tmp_path / "run") in done.stdout
        assert json.loads((tmp_path / "run" / "summary.json").read_bytes())["env_steps"] == 1000


class TestHelp:
    @pytest.mark.parametrize("name", agent_names())
    def test_all_of_it_names_every_field_of_agent_and_run_with_its_default(self, capsys, monkeypatch, name):
        monkeypatch.setenv("COLUMNS", "100")  # in one column
        code, out, _ = call(capsys, train, "--agent", name, "--help-all")
        assert code == 0
        config = config_of(name)()
        fields = [*dataclasses.fields(config), *dataclasses.fields(RunConfig)]
        text = re.sub(r", --no-[\w-]+", "", " ".join(out.replace("│", " ").split()))
        for field in fields:
            option = "--" + field.name.replace("_", "-")
            assert option in text, f"{option} is missing"
        for field in dataclasses.fields(config):
            told = self._told(text, "--" + field.name.replace("_", "-"))
            default = getattr(config, field.name)
            words = [str(v) for v in default] if isinstance(default, tuple) else [str(default)]
            assert f"(default: {' '.join(words)})" in told, f"{field.name}: {told}"
        for name in ("total_steps", "num_envs", "seed", "eval_episodes", "eval_envs", "keep_checkpoints"):
            told = self._told(text, "--" + name.replace("_", "-"))
            assert f"(default: {getattr(RunConfig, name)})" in told

    @staticmethod
    def _told(text: str, option: str) -> str:
        """Return what stands between an option and the next one."""
        return text.split(f" {option} ", 1)[1].split(" --")[0]

    @staticmethod
    def page(*words: str) -> str:
        """Return the help as a terminal of 100 columns shows it, which pytest's own stdout is not taken for."""
        shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(shown), pytest.raises(SystemExit):
            train(words)
        shown.seek(0)
        return shown.read()

    @pytest.mark.parametrize("name", agent_names())
    def test_the_short_form_fits_on_a_page_and_shows_common_fields_in_groups(self, monkeypatch, name):
        monkeypatch.setenv("COLUMNS", "100")
        out, whole = self.page("--agent", name, "--help"), self.page("--agent", name, "--help-all")
        assert len(out.splitlines()) <= 80
        for word in (
            "--env-id",
            "--total-steps",
            "--seed",
            "--preset",
            "--help-all",
            "run options",
            "budget options",
        ):
            assert word in out
        assert "--checkpoint-every-steps" not in out
        assert "--checkpoint-every-steps" in whole
        assert set(re.findall(r"╭─ (.*?) options", out)) <= set(re.findall(r"╭─ (.*?) options", whole))

    def test_the_groups_of_dqn(self, monkeypatch):
        monkeypatch.setenv("COLUMNS", "100")
        out = self.page("--agent", "dqn", "--help")
        assert re.findall(r"╭─ (.*?) options", out) == [
            "run", "environment", "budget", "evaluation", "files",
            "learning", "replay", "exploration", "network", "optimiser",
        ]  # fmt: skip

    def test_lists_the_presets_of_the_agent(self, capsys):
        out = call(capsys, train, "--agent", "dqn", "--help")[1]
        text = " ".join(out.split())
        assert ", ".join(presets_of("dqn")) in text
        assert "Presets of random: none" in call(capsys, train, "--agent", "random", "--help")[1]

    def test_without_an_agent_it_names_all(self, capsys):
        for words in (["--help"], ["-h"], ["--help-all"]):
            code, out, err = call(capsys, train, *words)
            assert (code, err) == (0, "")
            assert ", ".join(agent_names()) in " ".join(out.split())

    def test_a_preset_and_a_file_change_the_defaults_that_are_shown(self, capsys, tmp_path):
        (tmp_path / "fields.yaml").write_text("gamma: 0.125")
        words = ["--agent", "dqn", "--preset", "zoo:CartPole-v1", "--config", tmp_path / "fields.yaml"]
        text = " ".join(call(capsys, train, *words, "--help")[1].replace("│", " ").split())
        assert "(default: 256 256)" in text
        assert "(default: zoo:CartPole-v1)" not in text  # an option, not a field


class TestLearners:
    """A learner is built to learn, not to find out what its fields are."""

    @pytest.mark.parametrize("words", [["--help"], ["--help-all"]])
    def test_help_builds_none(self, capsys, built, words):
        call(capsys, train, *TABLE, *words)
        assert built == []

    def test_parsing_builds_none(self, built):
        options, fields = parse_train([*TABLE, *QUICK, "--preset=zoo:CartPole-v1", "--agent", "dqn"])
        assert (options.agent, fields["hidden"]) == ("dqn", (256, 256))  # the last of an option counts
        assert built == []

    @pytest.mark.parametrize("agent", ["q-learning", "dqn", "a2c"])
    def test_training_builds_one(self, capsys, built, tmp_path, agent):
        words = ["--agent", agent, "--env-id", "FrozenLake-v1", *QUICK, "--total-steps", "50"]
        assert call(capsys, train, *words, "--run-dir", tmp_path)[0] == 0
        assert built == [agent]

    @pytest.mark.parametrize(("agent", "code"), [("q-learning", STOPPED), ("sb3-dqn", 1)])
    def test_so_does_training_that_is_stopped(self, capsys, built, tmp_path, agent, code):
        words = ["--agent", agent, "--env-id", "FrozenLake-v1", *QUICK, "--total-steps", "200"]
        with asking_to_stop(50):
            done = call(capsys, train, *words, "--run-dir", tmp_path)
        assert done[0] == code, done
        assert built == [agent]


class TestConfigs:
    def test_a_config_of_a_run_makes_the_same_run_again(self, capsys, run_dir, tmp_path):
        words = ["--agent", "q-learning", "--config", run_dir / "config.json", "--run-dir", tmp_path]
        assert call(capsys, train, *words)[0] == 0
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
        assert parse_train(words)[1]["compile"] == meant
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
        _, fields = parse_train([*words, "--learning-rate", "0.25"])
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
        assert call(capsys, train, *words, "--env-kwargs", "map_name=8x8", "is_slippery=false")[0] == 0
        found = json.loads((tmp_path / "config.json").read_bytes())
        assert (found["num_envs"], found["fields"]["gamma"], found["eval_gamma"]) == (2, 0.5, 0.5)
        assert found["env_kwargs"] == {"map_name": "8x8", "is_slippery": False}


class TestTrainWarns:
    def test_in_one_line_of_a_model_that_is_not_what_is_played(self, capsys, tmp_path):
        words = ["--agent", "q-learning", "--env-id", "odd_models:odd/Leaking-v0", "--total-steps", "50"]
        code, out, err = call(capsys, train, *words, *QUICK, "--run-dir", tmp_path / "run")
        warned = [line for line in err.splitlines() if line.startswith("warning: ")]
        assert code == 0
        assert len(warned) == 1
        assert re.search("state .*, action .*: step gives .*; the model allows .*nothing exact", warned[0])
        assert "exact return" not in out

    def test_and_refuses_to_solve_it(self, capsys):
        words = ["--agent", "value-iteration", "--env-id", "odd_models:odd/Leaking-v0"]
        require_refusal(call(capsys, train, *words), "value-iteration needs a finite MDP", "the model allows")


def test_whole_numbers_may_be_written_with_an_exponent(tmp_path):
    file = tmp_path / "fields.yaml"
    file.write_text("eval_every_steps: 1e3")
    words = ["--agent", "dqn", "--env-id", "CartPole-v1", "--total-steps", "1e5", "--hidden", "1e2", "64"]
    _, fields = parse_train([*words, "--batch-size=2.56e2", "--config", str(file)])
    found = [fields[name] for name in ("total_steps", "hidden", "batch_size", "eval_every_steps")]
    assert found == [100_000, (100, 64), 256, 1000]
    assert all(isinstance(n, int) for n in found if n != (100, 64))

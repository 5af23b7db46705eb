"""The fields that all runs share: which values can be meant, and how fields are read."""

from __future__ import annotations

import re

import pytest

from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.runs.config import RunConfig, parse_pairs, read_fields, split_fields
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.training.registry import config_of
from rl_lab.training.setup import configure
from rl_lab.types import UsageError
from runs import learn


def ended(command) -> int:
    with pytest.raises(SystemExit) as left:
        main(train, command)
    return left.value.code


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--stop-at-return nan", "stop_at_return must be a finite number, got nan"),
        ("--stop-at-return inf", "stop_at_return must be a finite number, got inf"),
        ("--stop-at-return high", "'high'"),
        ("--num-envs 1000000000", "num_envs must be at most 65536, got 1000000000"),
        ("--stop-after-evals 0", "stop_after_evals must be at least 1, got 0"),
        ("--stop-after-evals 2.5", "'2.5'"),
        ("--stop-after-evals 2 --stop-min-delta -1", "stop_min_delta must be at least 0, got -1"),
        ("--stop-after-evals 2 --stop-min-delta nan", "stop_min_delta must be at least 0, got nan"),
        ("--stop-min-delta 1", "stop_min_delta 1.0 does nothing without stop_after_evals"),
        ("--eval-cvar-level 0.5 --eval-episodes 0", "eval_cvar_level 0.5 does nothing without eval_episodes"),
        (
            "--stop-at-return 1 --eval-episodes 0",
            "stop_at_return 1.0 needs evaluations while training; eval_episodes is 0 (allowed: 1 or more)",
        ),
        (
            "--stop-after-evals 2 --total-steps 90 --num-envs 4 --eval-every-steps 89",
            "stop_after_evals 2 needs evaluations while training; eval_every_steps 89 leaves none (allowed: up to 88)",
        ),
        ("--stop-at-return 1 --total-steps 1", "leaves none (allowed: with more total_steps)"),
        (
            "--stop-at-return 1 --agent value-iteration",
            "agent 'value-iteration' isn't evaluated while it learns, so that stop_at_return 1.0 can't stop it (",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_refused_in_one_line(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    agent = [] if "--agent" in words else ["--agent", "q-learning"]
    assert ended([*agent, "--env-id", "FrozenLake-v1", *words.split()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.rglob("*"))


def test_the_last_evaluation_before_the_end_is_enough():
    given = {"env_id": "FrozenLake-v1", "total_steps": 90, "num_envs": 4, "stop_at_return": 1}
    assert configure("q-learning", given | {"eval_every_steps": 88})[1].asks_to_stop() == "stop_at_return"
    with pytest.raises(UsageError, match="text"):
        configure("q-learning", given | {"stop_at_return": "text"})


def test_config_of_a_run_is_a_config_file(tmp_path):
    learn(tmp_path / "first", "q-learning", "FrozenLake-v1", total_steps=300, seed=4, gamma=0.9)
    file = str(tmp_path / "first" / "config.json")
    assert train(["--config", file, "--run-dir", str(tmp_path / "again")]) == 0
    parts = ("weights", "episodes.csv", "metrics")
    one, two = fingerprint(tmp_path / "first"), fingerprint(tmp_path / "again")
    assert [one[p] for p in parts] == [two[p] for p in parts]


@pytest.mark.parametrize(
    ("fields", "time_limit", "steps"),
    [
        ({"total_steps": 1_000}, None, 20_000),  # 20 episodes of 1000
        ({"total_steps": 1_000_000}, None, 100_000),  # as many as between evaluations
        ({"total_steps": 1_000, "eval_every_steps": 30_000}, None, 30_000),
        ({"total_steps": 1_000}, 500, 10_000),
        ({"total_steps": 1_000}, 5_000, 100_000),
        ({"total_steps": 1_000}, 10**6, 200_000),  # eval_max_steps
        ({"total_steps": 1_000, "eval_max_steps": 50}, None, 1_000),
        ({"total_steps": 1_000, "eval_total_steps": 7}, 500, 7),
    ],
)
def test_an_evaluation_is_cut_off_after_steps_that_no_episode_with_a_time_limit_reaches(
    fields, time_limit, steps
):
    assert RunConfig("CartPole-v1", **fields).eval_steps(time_limit) == steps


@pytest.mark.parametrize(
    "pair",
    [
        "a=2020-01-01",
        "a=2020-13-45",
        "a=&x [*x]",
        "a=!!binary eA==",
        "a=[1",
        "a={? [1] : 2}",
        f"a={'9' * 5000}",
    ],
)
def test_values_that_no_json_holds_are_refused(pair):
    with pytest.raises(UsageError, match="has a value that can't be read") as refused:
        parse_pairs([pair])
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("text", ["a: 2020-13-45", f"a: {'9' * 5000}", "a: [1", "[" * 5000])
def test_files_that_yaml_cannot_read_are_refused(tmp_path, text):
    (tmp_path / "fields.yaml").write_text(text)
    with pytest.raises(UsageError, match="is not YAML"):
        read_fields(tmp_path / "fields.yaml")


@pytest.mark.parametrize("arguments", [{"a": object()}, {1: 2}, {"a": {"b": b"x"}}])
def test_arguments_of_an_environment_that_no_json_holds_are_refused(arguments):
    with pytest.raises(UsageError, match=r"^env_kwargs .*must "):
        RunConfig("FrozenLake-v1", env_kwargs=arguments)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("learnig_rate", "(close: learning_rate, learning_rate_final, "),
        ("batch_sizes", "(close: batch_size; "),
    ],
)
def test_an_unknown_field_comes_with_what_is_close_and_with_what_lists_all(name, told):
    with pytest.raises(UsageError) as refused:
        split_fields({"env_id": "CartPole-v1", name: 1}, config_of("dqn"))
    text = str(refused.value)
    assert text.startswith(f"unknown field {name!r} {told}")
    assert re.search(r"; rl-lab train --agent NAME --help-all lists all \d+\)$", text)
    assert len(text) < 200

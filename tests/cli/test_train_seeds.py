"""Several seeds of a simulated learner in one command."""

from __future__ import annotations

import json

import pytest

from commands import QUICK, TABLE, call, require_refusal
from rl_lab.cli.train import _told as told
from rl_lab.cli.train import train
from rl_lab.runs.signals import STOPPED
from runs import asking_to_stop

WORDS = [*TABLE, *QUICK, "--total-steps", 200, "--num-seeds", 2, "--seed", 4]


def test_there_is_a_run_for_each_seed_and_a_line_about_it(capsys, tmp_path):
    code, out, _ = call(capsys, train, *WORDS, "--run-dir", tmp_path / "runs")
    lines = out.splitlines()
    assert (code, [line[:7] for line in lines[:2]]) == (0, ["seed-4:", "seed-5:"])
    assert lines[2] == f"run directories: {tmp_path / 'runs'}"
    for seed in (4, 5):
        summary = json.loads((tmp_path / f"runs/seed-{seed}/summary.json").read_bytes())
        assert (summary["seed"], summary["env_steps"]) == (seed, 200)
        config = json.loads((tmp_path / f"runs/seed-{seed}/config.json").read_bytes())
        assert config["fields"]["simulated"] is True


def test_what_was_stopped_says_which_run_goes_on_and_how_many_are_left(capsys, tmp_path):
    with asking_to_stop(50):
        code, out, _ = call(capsys, train, *WORDS, "--run-dir", tmp_path / "runs")
    first = tmp_path / "runs/seed-4"
    assert code == STOPPED
    assert "stopped after saving seed-4, 1 of 2 not begun; " in out
    assert out.endswith(f"continue this one with: rl-lab train --resume --run-dir={first}\n")
    assert call(capsys, train, "--resume", f"--run-dir={first}")[0] == 0
    assert json.loads((first / "summary.json").read_bytes())["env_steps"] == 200


def test_all_runs_that_learn_as_one_program_are_stopped_and_each_says_how_it_goes_on(capsys, tmp_path):
    words = ["--agent", "a2c", "--env-id", "CartPole-v1", *QUICK, "--total-steps", 200, "--num-seeds", 2]
    with asking_to_stop(50):
        code, out, _ = call(capsys, train, *words, "--hidden", 8, "--run-dir", tmp_path / "runs")
    assert (code, "not begun" in out) == (STOPPED, False)
    for seed in (0, 1):
        assert f"--run-dir={tmp_path / f'runs/seed-{seed}'}\n" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--agent", "random"], ["num_seeds 2", "'random'", "don't learn as one program"]),
        (["--num-seeds", 0], ["num_seeds must be at least 1, got 0"]),
        (["--env-id", "Blackjack-v1"], ["simulated needs a finite MDP", "Blackjack-v1"]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_leaves_no_folder(capsys, tmp_path, words, named):
    require_refusal(call(capsys, train, *WORDS, "--run-dir", tmp_path / "runs", *words), *named)
    assert not (tmp_path / "runs").exists()


def test_one_run_is_continued_at_a_time(capsys, tmp_path):
    assert call(capsys, train, *TABLE, *QUICK, "--total-steps", 20, "--run-dir", tmp_path / "run")[0] == 0
    found = call(capsys, train, "--resume", "--run-dir", tmp_path / "run", "--num-seeds", 2)
    require_refusal(found, "num_seeds 2 can't be given with --resume")


def test_the_summary_of_a_solver_says_nothing_of_steps():
    summary = {"env_steps": 0, "train_seconds": 0.52, "env_steps_per_second": 0.0, "regret": 0.0}
    assert told(summary) == "done in 0.5 s, regret to it 0"
    summary |= {"env_steps": 10, "env_steps_per_second": 20.0}
    assert told(summary) == "10 environment steps in 0.5 s (20 steps/s of training), regret to it 0"

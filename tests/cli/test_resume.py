"""`train --resume` of runs that are finished: it says so, extends them, or says why it can't."""

from __future__ import annotations

import json

import pytest

from commands import call, require_refusal, snapshot
from rl_lab.cli.train import train
from runs import learn

CONSTANT = {"epsilon_initial": 0.2, "epsilon_final": 0.2, "learning_rate": 0.5, "learning_rate_final": 0.5}


def test_a_finished_run_says_so_in_one_line(capsys, run_dir):
    before = snapshot(run_dir)
    code, out, err = call(capsys, train, "--resume", "--run-dir", run_dir)
    assert (code, err) == (0, "")
    assert out.startswith("finished already, nothing to resume: 400 environment steps in ")
    assert out.endswith(f"; run directory: {run_dir}\n")
    assert out.count("\n") == 1
    assert snapshot(run_dir) == before


def test_the_same_budget_again_is_nothing_to_do_either(capsys, run_dir):
    code, out, _ = call(capsys, train, "--resume", "--run-dir", run_dir, "--total-steps", 400)
    assert (code, out.split(",")[0]) == (0, "finished already")


def test_a_larger_budget_extends_it(capsys, tmp_path):
    learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=200, **CONSTANT)
    code, out, err = call(capsys, train, "--resume", "--run-dir", tmp_path, "--total-steps", 300)
    assert code == 0, err
    assert out.startswith("300 environment steps in ")
    assert err.splitlines()[-1].startswith("300/300 steps, ")
    assert json.loads((tmp_path / "config.json").read_bytes())["total_steps"] == 300


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        (800, ["epsilon_fraction 0.5 and learning_rate_final 0.01", "--init-from", "--total-steps 800"]),
        (300, ["total_steps 300", "400", "the same, or more"]),
    ],
)
def test_what_depends_on_the_budget_is_refused_with_an_offer(capsys, run_dir, steps, named):
    before = snapshot(run_dir)
    require_refusal(call(capsys, train, "--resume", "--run-dir", run_dir, "--total-steps", steps), *named)
    assert snapshot(run_dir) == before


def test_the_runs_of_sb3_are_refused_as_ever(capsys, tmp_path):
    learn(tmp_path, "sb3-a2c", "CartPole-v1", total_steps=10)
    for more in ([], ["--total-steps", 20]):
        outcome = call(capsys, train, "--resume", "--run-dir", tmp_path, *more)
        require_refusal(outcome, "agent 'sb3-a2c' can't resume exactly: start a new run from zero")

"""The command `solve`: it prints and writes the exact optimum, and refuses what has none."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

import rl_lab
from commands import call, require_refusal
from rl_lab.cli.solve import Method, solve
from rl_lab.mdp import average_methods
from rl_lab.mdp import solve as solver
from rl_lab.mdp.average_reward import AVERAGE_METHODS, solve_average
from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.model import extract_model


def test_every_method_may_be_chosen():
    assert get_args(Method) == (*METHODS, *AVERAGE_METHODS)


def test_the_help_says_when_not_to_use_prioritised_sweeping(capsys):
    with pytest.raises(SystemExit):
        solve(["--help"])
    assert "prioritised-sweeping takes many times as long" in " ".join(
        capsys.readouterr().out.replace("│", " ").split()
    )


class TestSolve:
    @pytest.mark.parametrize("method", METHODS)
    def test_prints_the_optimum_of_frozen_lake(self, capsys, method):
        code, out, err = call(capsys, solve, "--env-id", "FrozenLake-v1", "--method", method)
        assert (code, err) == (0, "")
        size, optimum, undiscounted = out.splitlines()
        assert size.startswith(f"FrozenLake-v1: 16 states, 4 actions; {method}, ")
        assert "optimal return from the start: 0.542026 (gamma 0.99, error at most " in optimum
        assert "0.740165 in 100 steps at most, 0.823529 without a limit" in undiscounted

    def test_arguments_and_discount_reach_the_model(self, capsys):
        words = ["--env-id", "FrozenLake-v1", "--env-kwargs", "is_slippery=false", "--gamma", "0.9"]
        assert f"start: {0.9**5:.6g}" in call(capsys, solve, *words)[1]

    def test_a_return_that_grows_without_end_is_said(self, capsys):
        out = call(capsys, solve, "--env-id", "lab/SuttonGrid5x5-v0", "--gamma", "0.9")[1]
        assert "100 steps at most, no finite return without a limit" in out

    def test_the_table_has_a_row_for_each_state(self, capsys):
        out = call(capsys, solve, "--env-id", "lab/GridWorld-v0", "--table")[1]
        model = extract_model(rl_lab.make_env("lab/GridWorld-v0"))
        solution = solver.solve(model, 0.99)
        header, *rows = [line.split() for line in out.splitlines()[3:]]
        assert header == ["state", "value", "optimal", "actions"]
        assert len(rows) == model.num_states
        for s, (state, value, *actions) in enumerate(rows):
            assert int(state) == s
            assert float(value) == pytest.approx(solution.v[s], rel=1e-5)
            assert [int(a) for a in actions] == np.flatnonzero(solution.optimal_actions[s]).tolist()

    def test_the_file_holds_the_solution(self, capsys, tmp_path):
        file = tmp_path / "lake.npz"
        assert f"solution: {file}" in call(capsys, solve, "--env-id", "FrozenLake-v1", "--out", file)[1]
        solution = solver.solve(extract_model(rl_lab.make_env("FrozenLake-v1")), 0.99)
        with np.load(file, allow_pickle=False) as found:
            for name in ("v", "q", "policy", "optimal_actions", "bound"):
                np.testing.assert_array_equal(found[name], getattr(solution, name))
            assert found["gamma"] == 0.99


class TestAverageReward:
    @pytest.mark.parametrize("method", AVERAGE_METHODS)
    def test_gain_and_bias_are_printed_with_their_bounds(self, capsys, method):
        code, out, err = call(capsys, solve, "--env-id", "FrozenLake-v1", "--method", method)
        assert (code, err) == (0, "")
        size, gain, bias = out.splitlines()
        assert size.startswith(f"FrozenLake-v1: 16 states, 4 actions; {method}, ")
        assert size.endswith(" sweeps; weakly communicating")
        assert gain.startswith("optimal average reward per step: 0.0179739 (error at most ")
        assert bias.startswith("bias: -0.176821 to 0.561741 (error at most ")
        assert bias.endswith("; 10 states are visited for ever")

    def test_of_a_large_model_relative_values_are_shown_by_that_name(self, capsys, tmp_path, monkeypatch):
        monkeypatch.setattr(average_methods, "DIRECT_STATES", 10)
        words = ["--env-id", "FrozenLake-v1", "--method", "relative-value-iteration", "--table"]
        out = call(capsys, solve, *words, "--out", tmp_path / "lake.npz")[1].splitlines()
        assert out[2].startswith("relative values: ")
        assert "(not certified to be the bias in so large a model)" in out[2]
        assert out[3].split() == ["state", "relative", "values", "optimal", "actions"]
        with np.load(tmp_path / "lake.npz", allow_pickle=False) as found:
            assert "relative_values" in found
            assert "bias" not in found

    def test_a_single_state_that_is_visited_for_ever_is_one_state(self, capsys):
        out = call(capsys, solve, "--env-id", "lab/Cliff-v0", "--method", "average-policy-iteration")[1]
        assert out.splitlines()[-1].endswith("; 1 state is visited for ever")

    def test_states_left_out_are_counted(self, capsys):
        out = call(capsys, solve, "--env-id", "lab/WindyGrid-v0", "--method", "average-policy-iteration")[1]
        assert "; communicating, apart from 8 states that the start doesn't lead to" in out

    def test_the_table_and_the_file_hold_the_bias(self, capsys, tmp_path):
        file, method = tmp_path / "lake.npz", "average-policy-iteration"
        words = ["--env-id", "FrozenLake-v1", "--method", method, "--table", "--out", file]
        out = call(capsys, solve, *words)[1]
        solution = solve_average(extract_model(rl_lab.make_env("FrozenLake-v1")), method)
        header, first, *_ = [line.split() for line in out.splitlines()[3:]]
        assert header == ["state", "bias", "optimal", "actions"]
        assert float(first[1]) == pytest.approx(solution.bias[0], rel=1e-5)
        with np.load(file, allow_pickle=False) as found:
            assert set(found) == {"bias", "gain", "bias_bound", "q", "policy", "optimal_actions", "bound"}
            for name in found:
                np.testing.assert_array_equal(found[name], getattr(solution, name))


class TestRefuses:
    @pytest.mark.parametrize(
        ("words", "named"),
        [
            ([], ["--env-id"]),
            (["--env-id", "CartPole-v1"], ["'CartPole-v1'", "finite MDP", "FrozenLake"]),
            (["--env-id", "FrozenLak-v1"], ["'FrozenLak-v1'", "FrozenLake-v1"]),
            (["--env-id", "FrozenLake-v1", "--method", "guessing"], ["'guessing'", "value-iteration"]),
            (
                ["--env-id", "FrozenLake-v1", "--method", "value-iterations"],
                ["--method", "close: value-iteration"],
            ),
            (["--env-id", "FrozenLake-v1", "--gamma", "1.5"], ["gamma", "1.5", "between 0.0 and 1.0"]),
            (["--env-id", "FrozenLake-v1", "--tolerance", "0"], ["tolerance", "greater than 0"]),
            (
                ["--env-id", "FrozenLake-v1", "--max-sweeps", "2"],
                ["max_sweeps = 2", "allowed", "a smaller gamma"],
            ),
            (
                ["--env-id", "FrozenLake-v1", "--method", "relative-value-iteration", "--gamma", "0.9"],
                ["gamma 0.9 has no meaning for relative-value-iteration", "allowed: none"],
            ),
            (
                ["--env-id", "FrozenLake-v1", "--method", "relative-value-iteration", "--max-sweeps", "2"],
                ["max_sweeps = 2", "a larger tolerance)"],
            ),
            (
                ["--env-id", "odd_models:odd/OneWay-v0", "--method", "relative-value-iteration"],
                ["multichain: no policy goes from state 0 to state 1 and back", "allowed: unichain"],
            ),
            (["--env-id", "FrozenLake-v1", "--out", "lake.csv"], ["'lake.csv'", ".npz"]),
            (["--env-id", "FrozenLake-v1", "--out", "nowhere/lake.npz"], ["'nowhere/lake.npz'", "folder"]),
        ],
        ids=lambda value: " ".join(value)[-40:] or "nothing",
    )
    def test_in_one_line(self, capsys, tmp_path, monkeypatch, words, named):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, solve, *words), *named)
        assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_what_is_played_is_refused_with_the_transition(capsys):
    outcome = call(capsys, solve, "--env-id", "odd_models:odd/Leaking-v0")
    require_refusal(outcome, "odd/Leaking-v0 is not what it plays: state ", "reward -0.01; the model allows ")

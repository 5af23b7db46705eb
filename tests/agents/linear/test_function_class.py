"""What linear values can express: against the enumeration of policies, and in a diagnosis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import diagnosed  # registers diagnosed/*
from diagnosed import all_choices, return_of, small_models
from rl_lab.agents.linear.features import OneHot, Raw
from rl_lab.agents.linear.function_class import LinearClass
from rl_lab.diagnosis.diagnose import diagnose
from rl_lab.function_class import FitTask
from rl_lab.mdp.solve import value_iteration
from runs import learn

GAMMA = 0.9


def task_of(model, obs, **fields) -> FitTask:
    """Fit to the best actions of all states."""
    eye, solution = np.eye(model.num_actions), value_iteration(model, GAMMA)
    return FitTask(
        obs=obs, mask=model.available, good=solution.optimal_actions, advantages=None, fits=2, steps=60,
        evaluate=lambda actions: return_of(model, eye[actions], GAMMA), best=float(model.initial @ solution.v),
        tolerance=1e-9, **fields,
    )  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=10)
@given(small_models())
def test_one_feature_for_each_state_expresses_the_optimum(model):
    states = np.arange(model.num_states)
    task = task_of(model, states)
    found = LinearClass(OneHot(lambda obs: obs, len(states)), np.zeros((2, len(states)))).fit(task)
    assert found.value == pytest.approx(task.best, abs=1e-9)


@settings(deadline=None, derandomize=True, max_examples=10)
@given(small_models())
def test_one_feature_that_is_always_the_same_prefers_one_action(model):
    """Those of all policies that prefer one action wherever it is legal."""
    task = task_of(model, np.ones((model.num_states, 1)))
    found = LinearClass(Raw(1), np.zeros((2, 1))).fit(task)
    preferring = (np.where(model.available, np.eye(2)[a], -1.0).argmax(axis=1) for a in (0, 1))
    returns = [return_of(model, np.eye(2)[chosen], GAMMA) for chosen in preferring]
    assert found.value <= max(returns) + 1e-9
    assert any(abs(found.value - value) < 1e-9 for value in returns)
    assert (
        found.value <= max(return_of(model, np.eye(2)[c], GAMMA) for c in all_choices(model.available)) + 1e-9
    )


def test_the_learned_weights_are_tried_before_any_others():
    """Without a single step of fitting they are all there is."""
    evaluated = []
    task = FitTask(
        obs=np.arange(3), mask=None, good=np.ones((3, 2), bool), advantages=None, best=9.0, fits=1, steps=0,
        evaluate=lambda actions: evaluated.append(actions.tolist()) or 1.0,
    )  # fmt: skip
    weights = np.array([[1.0, 0.0, -400.0], [2.0, -1.0, -300.0]])
    assert LinearClass(OneHot(lambda obs: obs, 3), weights).fit(task) == (1.0, 1)
    assert evaluated == [[1, 0, 1]]
    assert weights[1, 2] == -300.0  # they stay


def test_a_board_of_two_colours_is_beyond_raw_features(tmp_path):
    assert diagnosed.Checkerboard is not None
    fields = {"env_kwargs": {"size": 2}, "features": "raw", "total_steps": 300, "eval_episodes": 1}
    run = learn(tmp_path / "run", "semi-gradient-q", "diagnosed/Checkerboard-v0", **fields)
    found = diagnose(run.run_dir, episodes=0, fits=2, fit_steps=100)
    assert found.split.function_class == "linear values of 2 entries of the observation"
    assert found.split.representation > 1.0

"""Simulated Q-learning comes within 1 % of the optimum of well-known environments, after a stated number of steps."""

from __future__ import annotations

import gymnasium
import pytest

import rl_lab.envs  # noqa: F401  registers lab/*
from rl_lab.mdp.model import extract_model
from rl_lab.mdp.simulate import simulate
from simulated import learner

CASES = {  # id, arguments, gamma, steps, final epsilon, first and final step size
    "Taxi": ("Taxi-v4", {}, 0.99, 300_000, 0.1, (0.1, 0.001)),
    "rainy Taxi": ("Taxi-v4", {"is_rainy": True}, 0.99, 3_000_000, 0.1, (0.1, 0.0003)),
    "FrozenLake 8x8": ("FrozenLake8x8-v1", {}, 0.99, 5_000_000, 0.1, (0.1, 0.0001)),
    "cliff": ("CliffWalking-v1", {}, 0.99, 100_000, 0.1, (0.1, 0.001)),
    "slippery cliff": ("CliffWalking-v1", {"is_slippery": True}, 0.99, 3_000_000, 0.1, (0.1, 0.0005)),
    # with the rules of Blackjack-v1, which has no model; its optimum is a loss of 4.3 cents on the dollar
    "Blackjack": ("lab/Blackjack-v0", {}, 1.0, 120_000_000, 1.0, (0.005, 1e-6)),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.long] if CASES[c][3] > 1e8 else []) for c in CASES]
)
def test_regret_falls_below_one_hundredth_of_the_optimal_return(case):
    env_id, arguments, gamma, steps, epsilon, rate = CASES[case]
    env = gymnasium.make(env_id, **arguments)
    pupil = learner(epsilon=(1.0, epsilon), rate=rate, over=steps, exploring=0.5, gamma=gamma)
    limit = env.spec.max_episode_steps
    found = simulate(extract_model(env), pupil, [1], steps, evaluate_every=steps, time_limit=limit)
    assert found.regret[0, -1] < 0.01 * abs(found.optimal_return)

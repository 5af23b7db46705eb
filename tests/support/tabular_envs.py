"""The registered finite environments by name: made, read as models, evaluated and played."""

from __future__ import annotations

import gymnasium
import numpy as np

import rl_lab.envs  # noqa: F401  registers lab/*
from rl_lab.mdp.model import TabularModel, extract_model
from rl_lab.mdp.solve import policy_evaluation, value_iteration

UP, RIGHT, DOWN, LEFT = range(4)  # actions of every grid


def make(name: str, **fields) -> gymnasium.Env:
    return gymnasium.make(f"lab/{name}-v0", **fields)


def model_of(name: str, **fields) -> TabularModel:
    model = extract_model(make(name, **fields))
    assert model is not None
    return model


def table(text: str) -> np.ndarray:
    """Read a table of numbers as it is printed in a book."""
    return np.array([[float(x) for x in line.split()] for line in text.strip().splitlines()])


def evaluate_evenly(model: TabularModel, gamma: float) -> np.ndarray:
    """The values [S] of choosing evenly among the available actions."""
    policy = model.available / model.available.sum(axis=1, keepdims=True)
    return policy_evaluation(model, policy, gamma)


def best_return(model: TabularModel, gamma: float = 1.0) -> float:
    return float(model.initial @ value_iteration(model, gamma).v)


def play(env: gymnasium.Env, actions, seed: int = 0) -> tuple[list, float, bool]:
    """The states seen, the return, and whether the episode terminated with the last action."""
    obs, _ = env.reset(seed=seed)
    seen, total, terminated = [obs], 0.0, False
    for action in actions:
        assert not terminated
        obs, reward, terminated, _, _ = env.step(action)
        seen.append(obs)
        total += float(reward)
    return seen, total, terminated

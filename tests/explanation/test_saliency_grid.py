"""Saliency on pixel grid worlds: a network that has learned where agent and goal are looks at them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from networks import make_q_network
from rl_lab.envs.gridworld import GridWorld
from rl_lab.explanation.saliency import saliency
from rl_lab.mdp.solve import solve
from rl_lab.nn.acting import make_acting_values
from rl_lab.policies import ValuePolicy

SIDE, BLOCK = 8, 5  # cells, and pixels of each
GOALS = [(0, 7), (7, 0), (7, 7), (3, 4), (5, 1), (1, 2)]
STARTS = [(0, 0), (2, 6), (6, 5), (4, 2)]
MARGIN = 3  # pixels around a cell that count as its own


def world(goal) -> GridWorld:
    rows = [["."] * SIDE for _ in range(SIDE)]
    rows[4][6] = "S" if goal != (4, 6) else "."
    rows[goal[0]][goal[1]] = "G"
    return GridWorld("\n".join(map("".join, rows)), observation="pixels")


@pytest.fixture(scope="module")
def learned():
    """A network fitted to the exact action values of six worlds that differ by where the goal is."""
    worlds = [world(goal) for goal in GOALS]
    models = [env.model() for env in worlds]
    states = np.arange(SIDE * SIDE)
    obs = torch.from_numpy(np.concatenate([model.observe(states) for model in models]))
    q = torch.from_numpy(np.concatenate([solve(model, 0.9).q for model in models])).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make_q_network(worlds[0].observation_space, 4, hidden=(64,))
        optimiser = torch.optim.Adam(network.parameters(), 2e-3)
        for _ in range(200):
            batch = torch.randint(len(obs), (64,))
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(network(obs[batch])[0], q[batch]).backward()
            optimiser.step()
    return (
        ValuePolicy(make_acting_values(network, torch.device("cpu")), 4, network=network),
        models,
        worlds[0],
    )


@pytest.mark.long
@pytest.mark.parametrize("method", ["gradient", "perturbation"])
def test_agent_and_goal_hold_at_least_half_of_the_mass_in_a_fifth_of_the_area(learned, method):
    policy, models, env = learned
    shares = []
    for goal, model in zip(GOALS, models, strict=True):
        for agent in STARTS:
            obs = model.observe(np.array([agent[0] * SIDE + agent[1]]))
            found = saliency(policy, obs, (), np.ones(1, bool), space=env.observation_space, method=method)
            near = np.zeros(found.shape, bool)
            for row, column in (agent, goal):
                top, left = row * BLOCK - MARGIN, column * BLOCK - MARGIN
                near[max(top, 0) : top + BLOCK + 2 * MARGIN, max(left, 0) : left + BLOCK + 2 * MARGIN] = True
            assert near.mean() <= 0.2
            shares.append(found[near].sum())
    assert min(shares) >= 0.5, np.round(shares, 2)

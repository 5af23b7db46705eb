"""A DQN whose updates and target copies are counted."""

from __future__ import annotations

import numpy as np
import torch

import rl_lab.agents.dqn.agent
from rl_lab.types import Step
from rl_lab.updates.td import Outcome
from toys import (
    Counting,
    agent_on,
    problem_on,
)


class Clock:
    """Counts the gradient steps and target updates of an agent that is fed the same step over and over."""

    def __init__(self, monkeypatch, num_envs=1, **fields):
        self.agent = agent_on(problem_on(Counting, num_envs=num_envs), **fields)
        self.learned, self.synchronised = [], []  # env_steps of each
        monkeypatch.setattr(
            rl_lab.agents.dqn.agent,
            "polyak_update",
            lambda *args: self.synchronised.append((self.agent.env_steps, args[2])),
        )
        monkeypatch.setattr(self.agent, "sample", lambda rows, env_steps: None)
        monkeypatch.setattr(self.agent, "learn", self._learn)
        seen, n = np.zeros((num_envs, 1), np.float32), num_envs
        no = np.zeros(n, np.bool_)
        self.step = Step(seen, np.zeros(n, int), np.zeros(n), no, no, seen, no, (), (), None, None)

    def _learn(self, drawn):
        steps = self.agent._gradient_steps_per_call
        self.learned += [self.agent.env_steps] * steps
        return Outcome(*torch.zeros(4, steps))

    def run(self, env_steps):
        while self.agent.env_steps < env_steps:
            self.agent.observe(self.step)
            self.agent.update()
        return self

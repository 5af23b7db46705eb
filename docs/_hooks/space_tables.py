"""Tables of the spaces that each agent takes, by asking its learner."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.environments.vectors import SingleVector
from rl_lab.problem import Problem
from rl_lab.training.registry import make_learner
from rl_lab.types import UsageError

# Agents whose answers are the same share a column; the first is asked.
AGENTS = {
    "random": "random",
    "q-learning": "q-learning",
    "semi-gradient-sarsa": "semi-gradient-sarsa, semi-gradient-q",
    "lstd": "lstd, lspi",
    "dqn": "dqn, pqn",
    "ppo": "ppo, a2c, reinforce",
    "clone": "clone",
    "sb3-ppo": "sb3-ppo, sb3-a2c",
    "sb3-recurrent-ppo": "sb3-recurrent-ppo",
    "sb3-dqn": "sb3-dqn, sb3-qrdqn",
}
SPACES: dict[str, spaces.Space] = {
    "Discrete, any start": spaces.Discrete(3, start=-1),
    "MultiDiscrete, any start": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "MultiDiscrete of several axes": spaces.MultiDiscrete([[2, 3], [2, 2]]),
    "MultiBinary": spaces.MultiBinary(3),
    "MultiBinary of several axes": spaces.MultiBinary((2, 2)),
    "Box of floats": spaces.Box(-1, 1, (2,), np.float32),
    "Box of several axes": spaces.Box(-1, 1, (2, 2), np.float32),
    "Box of one number, shape ()": spaces.Box(-1, 1, (), np.float32),
    "Box of integers": spaces.Box(0, 3, (2,), np.int64),
    "Dict of discrete parts": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.MultiBinary(2)}),
    "Dict with a Box": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Box(-1, 1, (2,), np.float32)}),
    "Tuple, or parts of parts": spaces.Tuple((spaces.Dict({"a": spaces.Discrete(2)}), spaces.Discrete(2))),
    "Text": spaces.Text(5),
    "Graph": spaces.Graph(spaces.Box(-1, 1, (2,), np.float32), None),
    "Sequence": spaces.Sequence(spaces.Discrete(2)),
    "OneOf": spaces.OneOf((spaces.Discrete(2), spaces.Discrete(3))),
}
PLAIN = {"observation": spaces.Box(-1, 1, (2,), np.float32), "action": spaces.Discrete(3)}


class Showing(gymnasium.Env):
    """Draws observations from one space, and takes actions of another; 5 steps."""

    def __init__(self, observation: spaces.Space, action: spaces.Space):
        self.observation_space, self.action_space = observation, action

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self._left = 5
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action of the space."""
        assert self.action_space.contains(action), action
        self._left -= 1
        return self.observation_space.sample(), 1.0, self._left == 0, False, {}


class Recorded:
    """Stands for a dataset, for agents that only learn from one."""

    num_episodes = 10


def spaces_of(kind: str, space: spaces.Space, agent: str) -> dict[str, spaces.Space]:
    """Return the spaces of an environment with `space` as its observation or action space."""
    plain = PLAIN | ({"observation": spaces.Discrete(4)} if agent == "q-learning" else {})
    return plain | {kind: space}


def refusal(agent: str, kind: str, space: spaces.Space) -> str | None:
    """Return why an agent can't take a space (one line), or None if it can."""
    of_both = spaces_of(kind, space, agent)
    dataset: Any = Recorded() if agent == "clone" else None
    make = lambda n: SingleVector(Showing(**of_both))  # noqa: E731
    problem = Problem("ID", {}, 1, 1_000, 0, "cpu", make, dataset=dataset)
    try:
        return make_learner(agent).refuse(problem)
    except UsageError as error:
        return str(error)


def spaces_table(kind: str) -> str:
    """Return the table of "observation" or "action" spaces, with notes that say what helps."""
    notes: dict[str, int] = {}
    lines = [f"| {kind} space | {' | '.join(AGENTS.values())} |", "|---" * (len(AGENTS) + 1) + "|"]
    for name, space in SPACES.items():
        cells = [_cell(refusal(agent, kind, space), notes) for agent in AGENTS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {text}" for text, number in notes.items())])


def _cell(reason: str | None, notes: dict[str, int]) -> str:
    """Return "yes", or "no" with the number of the note that says why; a new note is added."""
    if reason is None:
        return "yes"
    told = re.sub(r"; ID has .*?(?= \((allowed|the lab)|$)", "", reason)
    told = re.sub(r"^(observation|action) space \w+\(.*\) has", r"the \1 space has", told)
    return f"no ({notes.setdefault(told, len(notes) + 1)})"

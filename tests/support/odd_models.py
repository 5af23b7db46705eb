"""Environments whose inherited model isn't what they play, and foreign ones with things called `model` and `P`."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.toy_text import FrozenLakeEnv

from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel


class Leaking(FrozenLakeEnv):
    """FrozenLake in which every step costs something."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward - 0.01, *rest


class Straight(FrozenLakeEnv):
    """FrozenLake on which one doesn't slip, whatever its model says: only its probabilities are wrong."""

    def step(self, action):
        _, self.s, reward, over = self.P[self.s][action][1]
        return int(self.s), float(reward), over, False, {}


class Bleeding(FrozenLakeEnv):
    """FrozenLake in which an episode may end anywhere."""

    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, True, truncated, info


class Lingering(FrozenLakeEnv):
    """FrozenLake in which holes don't end an episode."""

    def step(self, action):
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, False, truncated, info


class Wandering(FrozenLakeEnv):
    """FrozenLake that shows another state than the one it is in."""

    def step(self, action):
        _, *rest = super().step(action)
        return 15, *rest


class RichGoal(FrozenLakeEnv):
    """FrozenLake of 8x8 whose goal, which random play hardly ever finds, pays 5."""

    def __init__(self, is_slippery: bool = True):
        super().__init__(map_name="8x8", is_slippery=is_slippery)

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 5.0 * reward, *rest


class TurnedCorner(FrozenLakeEnv):
    """FrozenLake of 8x8 with one state beside the goal in which every action goes down."""

    def __init__(self):
        super().__init__(map_name="8x8")

    def step(self, action):
        return super().step(1 if self.s == 62 else action)


class Steered(FrozenLakeEnv):
    """FrozenLake that keeps its state elsewhere: setting `s` has no effect. Its model is true."""

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        self._at = self.s
        return obs, info

    def step(self, action):
        self.s = self._at
        obs, *rest = super().step(action)
        self._at = self.s
        return obs, *rest


class RichSteered(Steered):
    """The same with a goal that pays 5: only play can find it."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 5.0 * reward, *rest


class Foreign(gymnasium.Env):
    """Ends after five steps; subclasses have things of their own that are called as the lab's."""

    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return 0, {}

    def step(self, action):
        self._steps += 1
        return self._steps % 2, 1.0, self._steps == 5, False, {}


class WithNetwork(Foreign):
    """Has a network called `model`."""

    def __init__(self):
        self.model = torch.nn.Linear(2, 2)


class WithArguments(Foreign):
    """Has a method `model` that asks for a state and an action."""

    def model(self, state, action):
        raise AssertionError("not to be called")


class WithProperty(Foreign):
    """Has a property `model` that fails."""

    @property
    def model(self):
        raise RuntimeError("not connected")


class WithOtherModel(Foreign):
    """Has a method `model` that returns something else."""

    def model(self, state=None):
        return {"states": 2}


class WithArray(Foreign):
    """Has transition probabilities as an array [A, S, S]."""

    P, initial_state_distrib = np.full((2, 2, 2), 0.5), np.array([1.0, 0.0])


class WithFunction(Foreign):
    """Has a function of transition probabilities."""

    initial_state_distrib = np.array([1.0, 0.0])

    def P(self, state, action):
        raise AssertionError("not to be called")


class WithNames(Foreign):
    """Has transitions between names."""

    initial_state_distrib = np.array([1.0])

    def __init__(self):
        self.P = {"a": {"stay": [(1.0, "a", 0.0, False)]}}


class WithPairs(Foreign):
    """Has transitions of (probability, successor) alone."""

    initial_state_distrib = np.array([1.0, 0.0])

    def __init__(self):
        self.P = {s: {a: [(1.0, 1 - s)] for a in range(2)} for s in range(2)}


FOREIGN = [
    WithNetwork,
    WithArguments,
    WithProperty,
    WithOtherModel,
    WithArray,
    WithFunction,
    WithNames,
    WithPairs,
]


class Numbered(Foreign):
    """Shows observations whose keys are numbers, one of them an image beside a small array of bytes."""

    observation_space = spaces.Dict({
        1: spaces.Discrete(3), 0: spaces.Box(0, 255, (6, 6, 3), np.uint8), 10: spaces.Box(0, 255, (2, 3), np.uint8),
        2: spaces.Box(-1, 1, (2,)),
    })  # fmt: skip

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action):
        _, *rest = super().step(action)
        return self._seen(), *rest

    def _seen(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()


class OneWay(TabularEnv):
    """Stays in state 0 for 1 or in state 1 for 2; from 1 no way leads back."""

    def __init__(self, render_mode: str | None = None):
        outcomes = [(0, 0, 1.0, 0, 1.0, False), (0, 1, 1.0, 1, 0.0, False), (1, 0, 1.0, 1, 2.0, False)]
        outcomes.append((1, 1, 1.0, 1, 2.0, False))
        super().__init__(TabularModel.from_outcomes(outcomes, 2, 2, [1.0, 0.0]), render_mode=render_mode)

    def _make_picture(self):
        raise NotImplementedError


gymnasium.register("odd/OneWay-v0", OneWay, max_episode_steps=20)
gymnasium.register("odd/Numbered-v0", Numbered)
gymnasium.register("odd/Leaking-v0", Leaking, max_episode_steps=100)
gymnasium.register("odd/RichGoal-v0", RichGoal, max_episode_steps=200)

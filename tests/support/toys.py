"""Small environments whose truth is known, and how tests let an agent loose on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.environments.make import vector_of
from rl_lab.problem import Problem
from rl_lab.seeding import EpisodeSeeds, Streams
from rl_lab.training.experience import experience
from rl_lab.training.loop import start, train
from rl_lab.trees import map_leaves
from rl_lab.types import EnvSpec, Step


class Counting(gymnasium.Env):
    """Observes (episode's number in the high part, steps): obs + 1 follows obs, whatever happens."""

    observation_space = spaces.Box(0.0, 1e6, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 100.0 * self.np_random.integers(1000)
        self.left = int(self.np_random.integers(1, 9))
        return self._seen(), {}

    def step(self, action):
        self.count += 1
        self.left -= 1
        over, kind = self.left == 0, bool(self.np_random.integers(2))
        return self._seen(), 1.0, over and kind, over and not kind, {}

    def _seen(self):
        return np.array([self.count], np.float32)


class Parts(Counting):
    """Shows the same in parts, by name: a vector, a number of four and a picture."""

    observation_space = spaces.Dict(
        {
            "count": Counting.observation_space,
            "number": spaces.Discrete(4),
            "picture": spaces.Box(0, 255, (36, 36), np.uint8),
        }
    )

    def _seen(self):
        count = int(self.count)
        picture = np.full((36, 36), count % 256, np.uint8)
        return {"count": super()._seen(), "number": count % 4, "picture": picture}


class ConstantReward(gymnasium.Env):
    """Always rewards 1, and is cut off by its time limit alone."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), 1.0, False, self.steps == 5, {}


class Identity(gymnasium.Env):
    """Rewards the action that repeats the observation; 20 steps."""

    def __init__(self, n: int = 4):
        self.observation_space = self.action_space = spaces.Discrete(n)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        self.steps += 1
        reward = float(action == self.shown)
        return self._draw(), reward, False, self.steps == 20, {}

    def _draw(self):
        self.shown = int(self.np_random.integers(self.observation_space.n))
        return self.shown


class CueRecall(gymnasium.Env):
    """Shows one of two cues, then nothing; the third action is rewarded if it names the cue."""

    observation_space = spaces.Box(0.0, 1.0, (5,), np.float32)  # cue [2], step [3]
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cue, self.steps = int(self.np_random.integers(2)), 0
        return self._seen(), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 3
        return self._seen(), float(over and action == self.cue), over, False, {}

    def _seen(self):
        seen = np.zeros(5, np.float32)
        if self.steps == 0:
            seen[self.cue] = 1.0
        if self.steps < 3:
            seen[2 + self.steps] = 1.0
        return seen


class Masked(Identity):
    """The identity, in which one action (never the right one) is illegal in each state, and may not be taken."""

    def step(self, action):
        assert action != self.illegal
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, self._info()

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self._info()

    def _info(self):
        mask = np.ones(4, np.int8)
        self.illegal = (self.shown + 1) % 4
        mask[self.illegal] = 0
        return {"action_mask": mask}


class Staggered(gymnasium.Env):
    """Random observations; episodes of 2 to 6 steps end at different times, half of them cut off."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(2, 7))
        return self._seen(), {}

    def step(self, action):
        self.left -= 1
        over, cut = self.left == 0, bool(self.np_random.integers(2))
        return self._seen(), float(self.np_random.normal()), over and not cut, over and cut, {}

    def _seen(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


class StaggeredMasks(Staggered):
    """With one action that is illegal, another one at every step."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self._mask()

    def step(self, action):
        assert self._legal[action]
        return *super().step(action)[:-1], self._mask()

    def _mask(self):
        self._legal = np.ones(3, np.int8)
        self._legal[self.np_random.integers(3)] = 0
        return {"action_mask": self._legal}


class Repeat(gymnasium.Env):
    """Box actions: the closer to the observation the better; 10 steps."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Box(-0.5, 0.5, (2, 1), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._draw(), {}

    def step(self, action):
        self.steps += 1
        reward = -float(np.abs(action[:, 0] - self.shown.clip(-0.5, 0.5)).mean())
        return self._draw(), reward, False, self.steps == 10, {}

    def _draw(self):
        self.shown = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.shown


def vector(make: Callable[[], gymnasium.Env], num_envs: int) -> Any:
    """A vector without autoreset."""
    return vector_of(make, num_envs)


def problem_on(
    make: Callable[[], gymnasium.Env], *, num_envs: int = 1, total_steps: int = 1_000, seed: int = 0
) -> Problem:
    return Problem("toy", {}, num_envs, total_steps, seed, "cpu", lambda n: vector(make, n))


def spec_of(
    observations: spaces.Space, actions: int = 3, *, num_envs: int = 1, has_mask: bool = False
) -> EnvSpec:
    return EnvSpec("toy", observations, spaces.Discrete(actions), num_envs, None, has_mask)


def interact(agent, problem: Problem, observe=lambda step: None):
    """Let an agent learn for the whole budget; `observe` sees every step."""
    envs = problem.make(problem.num_envs)
    seeds, acting = EpisodeSeeds(problem.seed, problem.num_envs), agent.policy(explore=True)
    for step, _, _ in train(agent, acting, envs, seeds, problem.total_steps, start(acting, envs, seeds)):
        observe(step)
    return agent


def imitate(agent, problem: Problem):
    """Let an agent learn from the problem's dataset for the whole budget."""
    source = experience(problem)
    seeds, acting = source.seeds(), source.acting(agent.policy(explore=True))
    begun = start(acting, source.envs, seeds)
    for _ in train(agent, acting, source.envs, seeds, problem.total_steps, begun):
        pass
    source.envs.close()
    return agent


def copied(step: Step) -> Step:
    """A copy, as the environment may use its arrays again."""
    parts = {f.name: map_leaves(np.copy, getattr(step, f.name)) for f in dataclasses.fields(step)}
    return dataclasses.replace(step, **parts)


def agent_on(problem: Problem, **fields):
    """A DQN for a problem."""
    from rl_lab.agents.dqn import DQN, Config

    return DQN(Config(**fields), problem, Streams(problem.seed))


def sample(agent):
    """What a DQN would learn from next."""
    return agent.sample(agent._gradient_steps_per_call * agent.config.batch_size, agent.env_steps)


def policy_agent_on(problem: Problem, config: type | None = None, **fields):
    """A policy-gradient agent for a problem; PPO, if no other config is given."""
    from rl_lab.agents.policy_gradient import PolicyGradient, PPOConfig

    return PolicyGradient((config or PPOConfig)(**fields), problem, Streams(problem.seed))


class Unaware:
    """Is never told that an episode began."""

    def __init__(self, policy):
        self._policy, self.initial_state = policy, policy.initial_state

    def act(self, obs, state, is_first, mask=None):
        return self._policy.act(obs, state, np.zeros_like(is_first), mask)

    def inspect(self, obs, state, is_first, mask=None):
        return self._policy.inspect(obs, state, np.zeros_like(is_first), mask)

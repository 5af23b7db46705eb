"""The loop in which an agent interacts with environments. Logging, evaluating and saving happen outside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.masks import mask_of, merge_masks
from rl_lab.environments.vectors import NEVER, StepResult, VectorEnv
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.seeding import EpisodeSeeds
from rl_lab.types import Array, Cursor, Decision, Metrics, Obs, State, Step


class Acting(Protocol):
    """What the loop needs of a `Policy`."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each of N observations [N, ...]."""


class Learning(Protocol):
    """What the loop needs of an `Agent`."""

    def observe(self, step: Step) -> None:
        """Store one vector step."""

    def update(self) -> Metrics | None:
        """Learn if it is due."""


class Stepping(Protocol):
    """What the loop needs of a `VectorEnv`."""

    num_envs: int

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]."""

    def step(self, action: Array) -> StepResult:
        """Step all environments with actions [N, ...]."""


def start(policy: Policy, envs: VectorEnv, seeds: EpisodeSeeds) -> Cursor:
    """Reset every environment with the seed of its first episode; return where the loop starts."""
    obs, info = envs.reset(seed=seeds.current())
    is_first = np.ones(envs.num_envs, dtype=np.bool_)
    return Cursor(obs, is_first, policy.initial_state(envs.num_envs), mask_of(info), 0, seeds.episodes)


def train(
    agent: Learning, policy: Acting, envs: Stepping, seeds: EpisodeSeeds, total_steps: int, at: Cursor
) -> Iterator[tuple[Step, Metrics | None, Cursor]]:
    """Let `policy` act and `agent` learn, from `at` until `total_steps`; yield after every vector step.

    Every yield is a point at which to save: the cursor, the agent and the random streams hold everything.
    """
    checked = getattr(envs, "checked", False)
    act, step_envs, observe, update = policy.act, envs.step, agent.observe, agent.update
    obs, is_first, state, mask, env_steps, episodes = at
    while env_steps < total_steps:
        action, next_state, extras = act(obs, state, is_first, mask)
        next_obs, reward, terminated, truncated, info = step_envs(action)
        next_mask = mask_of(info) if info else None
        done = terminated.copy() if truncated is NEVER else terminated | truncated
        if LIFE_LOST in info:
            terminated = terminated | info[LIFE_LOST]  # zeroes the bootstrap; the episode goes on
        step = Step(
            obs, action, reward, terminated, truncated, next_obs,
            is_first, state, next_state, mask, next_mask, extras, checked,
        )  # fmt: skip
        observe(step)
        metrics = update()
        obs, mask, is_first, state = next_obs, next_mask, done, next_state
        if 1 in done.tobytes():  # a third of the cost of `any`
            obs, mask = reset_done(envs, seeds, done, next_mask)
            episodes = seeds.episodes
        env_steps += envs.num_envs
        yield step, metrics, Cursor(obs, is_first, state, mask, env_steps, episodes)


def reset_done(
    envs: Stepping, seeds: EpisodeSeeds, done: Array, next_mask: Array | None
) -> tuple[Obs, Array | None]:
    """Open the next episode, with its own seed, where `done` [N]; return all observations and masks [N, ...].

    Where `done` is false the observations are what the environments return, and the masks are those of `next_mask`.
    """
    obs, info = envs.reset(seed=seeds.advance(done), options={"reset_mask": done})
    return obs, merge_masks(done, mask_of(info), next_mask)

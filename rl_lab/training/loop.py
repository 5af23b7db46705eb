"""The loop: how an agent interacts with environments. Logging, evaluation and saving sit outside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rl_lab.agent import Agent, Policy
from rl_lab.environments.vectors import VectorEnv, mask_of, merge_masks
from rl_lab.seeding import EpisodeSeeds
from rl_lab.types import Array, Cursor, Metrics, Obs, Step


def start(policy: Policy, envs: VectorEnv, seeds: EpisodeSeeds) -> Cursor:
    """Reset every environment to the seed of its first episode."""
    obs, info = envs.reset(seed=seeds.current())
    is_first = np.ones(envs.num_envs, dtype=np.bool_)
    return Cursor(obs, is_first, policy.initial_state(envs.num_envs), mask_of(info), 0, seeds.episodes)


def train(
    agent: Agent, policy: Policy, envs: VectorEnv, seeds: EpisodeSeeds, total_steps: int, at: Cursor
) -> Iterator[tuple[Step, Metrics | None, Cursor]]:
    """Let `policy` act and `agent` learn from `at` until `total_steps`; yield after every vector step.

    Any yield is a save point: the cursor, the agent and the streams are all there is.
    """
    while at.env_steps < total_steps:
        decision = policy.act(at.obs, at.state, at.is_first, at.mask)
        next_obs, reward, terminated, truncated, info = envs.step(decision.action)
        next_mask = mask_of(info)
        done = terminated | truncated
        if "life_lost" in info:
            terminated = terminated | info["life_lost"]  # zeroes the bootstrap; the episode goes on
        step = Step(
            at.obs, decision.action, reward, terminated, truncated, next_obs,
            at.is_first, at.state, decision.state, at.mask, next_mask, decision.extras,
        )  # fmt: skip
        agent.observe(step)
        metrics = agent.update()
        obs, mask = (
            reset_done(envs, seeds, done, next_mask) if np.count_nonzero(done) else (next_obs, next_mask)
        )
        at = Cursor(obs, done, decision.state, mask, at.env_steps + envs.num_envs, seeds.episodes)
        yield step, metrics, at


def reset_done(
    envs: VectorEnv, seeds: EpisodeSeeds, done: Array, next_mask: Array | None
) -> tuple[Obs, Array | None]:
    """Open the next episode where `done`, with its own seed; the others keep observation and mask."""
    obs, info = envs.reset(seed=seeds.advance(done), options={"reset_mask": done})
    return obs, merge_masks(done, mask_of(info), next_mask)

"""Renders the frames of episodes that a policy plays, or that recorded actions replay."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import gymnasium
import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.actions import action_dtype
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.types import Array


def rendered_frames(
    policy: Policy,
    make: Callable[[], gymnasium.Env],
    *,
    seeds: list[int],
    max_steps: int = 10_000,
    actions: list[Array] | None = None,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> Iterator[Array]:
    """Play one episode per seed and yield its rendered frames uint8 [H, W, 3], starting with the first observation's.

    Args:
        make: makes an environment whose render_mode is "rgb_array".
        max_steps: limit on the steps of each episode.
        actions: one array [length, ...] per episode, replayed instead of asking the policy.
        on_cut: called with `max_steps` for each episode that was cut there and would have gone on.

    Raises:
        ValueError: the environment renders something else than [H, W, 3].
    """
    envs = SingleVector(make())
    try:
        for index, seed in enumerate(seeds):
            replayed = None if actions is None else actions[index]
            if (yield from _episode_frames(policy, envs, seed, max_steps, replayed)):
                on_cut(max_steps)
    finally:
        envs.close()


def _episode_frames(
    policy: Policy, envs: VectorEnv, seed: int, max_steps: int, actions: Array | None
) -> Generator[Array, None, bool]:
    """Yield the frames of an episode; return whether it was cut and would have gone on."""
    obs, info = envs.reset(seed=[seed])
    state, mask, is_first = policy.initial_state(1), mask_of(info), np.ones(1, np.bool_)
    yield _frame(envs)
    for t in range(max_steps if actions is None else min(max_steps, len(actions))):
        if actions is None:
            decision = policy.act(obs, state, is_first, mask)
            action, state = decision.action, decision.state
        else:
            action = actions[t : t + 1].astype(action_dtype(envs.single_action_space))
        obs, _, terminated, truncated, info = envs.step(action)
        mask, is_first = mask_of(info), terminated | truncated
        yield _frame(envs)
        if is_first[0]:
            return False
    return actions is None or len(actions) > max_steps


def _frame(envs: VectorEnv) -> Array:
    frame = np.asarray(envs.render()[0])
    if frame.ndim != 3:
        raise ValueError(f"render() gave an array of shape {frame.shape} (allowed: [height, width, 3])")
    return frame

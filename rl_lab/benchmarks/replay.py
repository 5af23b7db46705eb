"""Adding to a replay and sampling from it beside SB3's buffer, and the bytes per transition of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from rl_lab.benchmarks.work import Work, row, timed
from rl_lab.replay.footprint import replay_bytes
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import EnvSpec, Step
from rl_lab.updates.td import batch_of_transitions

VECTORS = spaces.Box(-10.0, 10.0, (4,), np.float32)  # CartPole's
STACKS = spaces.Box(0, 255, (4, 84, 84), np.uint8)  # Atari's
EPISODE_STEPS = 100


def replay() -> list[Work | dict[str, Any]]:
    """Return work with vectors from one and from four environments, and with stacks of frames."""
    return [
        *sizes(),
        *replay_works("CartPole's vectors", VECTORS, steps=20_000, capacity=50_000, batches=(64, 256)),
        *replay_works(
            "CartPole's vectors", VECTORS, steps=10_000, capacity=50_000, batches=(64,), num_envs=4
        ),
        *replay_works("Atari's stacks", STACKS, steps=2_000, capacity=2_000, batches=(32,), stack=4),
    ]


def replay_works(
    name: str,
    space: spaces.Box,
    *,
    steps: int,
    capacity: int,
    batches: tuple[int, ...],
    num_envs: int = 1,
    stack: int = 1,
    draws: int = 2_000,
) -> list[Work]:
    """Return adding `steps` vector steps, and drawing `draws` batches of each size, on both sides."""
    actions = spaces.Discrete(2)
    spec = EnvSpec(name, space, actions, num_envs, None, False, frame_stack=stack)
    played = play(space, steps, num_envs, stack)
    ours = TransitionReplay(capacity, spec)
    theirs = ReplayBuffer(capacity, space, actions, "cpu", n_envs=num_envs, handle_timeout_termination=True)
    infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    rng = np.random.default_rng(0)

    def add_ours() -> None:
        for step in played:
            ours.add(step)

    def add_theirs() -> None:
        for step in played:
            theirs.add(step.obs, step.next_obs, step.action, step.reward, step.terminated, infos)

    def draw_ours(size: int) -> None:  # converts to tensors, as SB3's does
        for _ in range(draws):
            batch_of_transitions(ours.sample(size, rng), 1, torch.from_numpy)

    def draw_theirs(size: int) -> None:
        for _ in range(draws):
            theirs.sample(size)

    for _ in range(5):  # until every page of both rings has been written once
        add_ours()
        add_theirs()
    pairs: list[tuple[str, Callable[[], None], Callable[[], None]]] = [
        (f"adding {steps} steps", add_ours, add_theirs)
    ]
    pairs += [
        (f"drawing {draws} batches of {n}", partial(draw_ours, n), partial(draw_theirs, n)) for n in batches
    ]
    what = f"{name}, N = {num_envs}"
    return [
        Work(f"{did}, {what}", "sb3", partial(timed, us), partial(timed, they)) for did, us, they in pairs
    ]


def play(space: spaces.Box, steps: int, num_envs: int, stack: int) -> list[Step]:
    """Return `steps` vector steps: an observation is the previous step's successor, unless an episode ended there."""
    rng = np.random.default_rng(0)
    obs, is_first, played = opening(space, rng, num_envs), np.ones(num_envs, np.bool_), []
    action, reward, no = np.zeros(num_envs, np.int64), np.ones(num_envs), np.zeros(num_envs, np.bool_)
    apart = np.arange(num_envs) * (EPISODE_STEPS // num_envs)
    for t in range(steps):
        over, new = (t + apart) % EPISODE_STEPS == 0, opening(space, rng, num_envs)
        next_obs = new if stack == 1 else np.concatenate((obs[:, 1:], new[:, -1:]), axis=1)
        played.append(Step(obs, action, reward, over, no, next_obs, is_first, (), (), None, None))
        obs, is_first = next_obs, over
        if over.any():
            obs = np.where(over.reshape(-1, *[1] * len(space.shape)), opening(space, rng, num_envs), next_obs)
    return played


def opening(space: spaces.Box, rng: np.random.Generator, num_envs: int) -> Any:
    """Return random observations [N, ...]."""
    shape = (num_envs, *space.shape)
    if space.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(space.dtype)


def sizes() -> list[dict[str, Any]]:
    """Return rows of the bytes per transition on both sides, when a million of them are kept."""
    return [size("CartPole", VECTORS, stack=1, actions=2), size("Atari", STACKS, stack=4, actions=18)]


def size(name: str, space: spaces.Box, *, stack: int, actions: int) -> dict[str, Any]:
    """Return a row of the bytes per transition on both sides, when a million of them are kept."""
    spec = EnvSpec(name, space, spaces.Discrete(actions), 1, None, False, frame_stack=stack)
    theirs = ReplayBuffer(100, space, spec.action_space, "cpu", handle_timeout_termination=True)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    sb3_bytes = sum(getattr(theirs, n).nbytes for n in names) / theirs.buffer_size
    ours = replay_bytes(1_000_000, spec) / 1_000_000
    return row(f"a transition of {name}, of a million", "sb3", "bytes", ours, sb3_bytes)

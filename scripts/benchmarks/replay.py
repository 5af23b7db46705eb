"""Adding to a replay and sampling from it, beside SB3's buffer, and the bytes of a transition."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from benchmarks.work import Work, timed
from rl_lab.replay.memory import replay_bytes
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import EnvSpec, Step

VECTORS = spaces.Box(-10.0, 10.0, (4,), np.float32)  # CartPole's
STACKS = spaces.Box(0, 255, (4, 84, 84), np.uint8)  # Atari's
EPISODE_STEPS = 100
DRAWS = 2_000


def replay() -> list[Work]:
    """Vectors from one environment and from four, and stacks of frames."""
    print_bytes()
    return [
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
) -> list[Work]:
    """Adding `steps` vector steps, and drawing batches, on both sides."""
    actions = spaces.Discrete(2)
    spec = EnvSpec(name, space, actions, num_envs, None, False, frame_stack=stack)
    played = play(space, steps, num_envs, stack)
    ours = TransitionReplay(capacity, spec)
    theirs = ReplayBuffer(capacity, space, actions, "cpu", n_envs=num_envs, handle_timeout_termination=True)
    infos = [{} for _ in range(num_envs)]
    rng = np.random.default_rng(0)

    def add_ours() -> None:
        for step in played:
            ours.add(step)

    def add_theirs() -> None:
        for step in played:
            theirs.add(step.obs, step.next_obs, step.action, step.reward, step.terminated, infos)

    def draw_ours(size: int) -> None:
        for _ in range(DRAWS):
            ours.sample(size, rng)

    def draw_theirs(size: int) -> None:
        for _ in range(DRAWS):
            theirs.sample(size)

    add_ours(), add_theirs()
    what = f"{name}, N = {num_envs}"
    adding = Work(
        f"adding {steps} steps, {what}", "sb3", partial(timed, add_ours), partial(timed, add_theirs)
    )
    return [adding] + [
        Work(
            f"drawing {DRAWS} batches of {size}, {what}", "sb3",
            partial(timed, partial(draw_ours, size)), partial(timed, partial(draw_theirs, size)),
        )
        for size in batches
    ]  # fmt: skip


def play(space: spaces.Box, steps: int, num_envs: int, stack: int) -> list[Step]:
    """Return steps as an environment gives them: an observation is the successor before, the same array."""
    rng = np.random.default_rng(0)
    obs, is_first, played = opening(space, rng, num_envs), np.ones(num_envs, np.bool_), []
    action, reward, no = np.zeros(num_envs, np.int64), np.ones(num_envs), np.zeros(num_envs, np.bool_)
    for t in range(1, steps + 1):
        over = np.full(num_envs, t % EPISODE_STEPS == 0)
        new = opening(space, rng, num_envs)
        next_obs = new if stack == 1 else np.concatenate((obs[:, 1:], new[:, -1:]), axis=1)
        played.append(Step(obs, action, reward, over, no, next_obs, is_first, (), (), None, None))
        obs, is_first = (opening(space, rng, num_envs) if over[0] else next_obs), over
    return played


def opening(space: spaces.Box, rng: np.random.Generator, num_envs: int) -> Any:
    """Return any observations [N, ...]."""
    shape = (num_envs, *space.shape)
    if space.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.normal(size=shape).astype(space.dtype)


def print_bytes() -> None:
    """Print what is kept of a transition of CartPole on both sides, and of a million of Atari's."""
    for name, space, stack, actions in (("CartPole", VECTORS, 1, 2), ("Atari", STACKS, 4, 18)):
        spec = EnvSpec(name, space, spaces.Discrete(actions), 1, None, False, frame_stack=stack)
        theirs = ReplayBuffer(100, space, spec.action_space, "cpu", handle_timeout_termination=True)
        names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        sb3_bytes = sum(getattr(theirs, n).nbytes for n in names) / theirs.buffer_size
        ours = replay_bytes(1_000_000, spec) / 1_000_000
        print(
            f"  bytes of a transition, of a million of {name}'s: ours {ours:.0f}, sb3 {sb3_bytes:.0f}",
            flush=True,
        )

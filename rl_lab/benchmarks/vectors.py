"""Many environments at once: stepped in arrays, acted in, recorded and learned from."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from rl_lab.benchmarks.training import lab_seconds, plain_sb3_ppo_seconds, sb3_arguments
from rl_lab.benchmarks.work import Work, timed
from rl_lab.environments.make import make_envs
from rl_lab.environments.vectors import VectorEnv
from rl_lab.seeding import EpisodeSeeds

NUMBERS = (8, 64, 512)
MILLION = 1_000_000
STEPPED = ("CartPole-v1", "lab/GridWorld-v0")


def played_seconds(envs: VectorEnv, steps: int) -> float:
    """Play seeded episodes with random actions, and return the seconds of a million steps."""
    actions = _random_actions(envs.num_envs, int(getattr(envs.single_action_space, "n", 2)))
    seeds = EpisodeSeeds(0, envs.num_envs)
    envs.reset(seed=seeds.current())

    def play() -> None:
        for t in range(steps // envs.num_envs):
            _, _, terminated, truncated, _ = envs.step(actions[t % len(actions)])
            done = terminated | truncated
            if done.any():
                envs.reset(seed=seeds.advance(done), options={"reset_mask": done})

    return _per_million(play, steps, envs.num_envs)


def gymnasium_seconds(env_id: str, num_envs: int, steps: int) -> float:
    """Play random actions in Gymnasium's vector of single environments, which resets them by itself; likewise."""
    envs: Any = gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync")
    actions = _random_actions(num_envs, int(envs.single_action_space.n))
    envs.reset(seed=0)

    def play() -> None:
        for t in range(steps // num_envs):
            envs.step(actions[t % len(actions)])

    return _per_million(play, steps, num_envs)


def _random_actions(num_envs: int, num_actions: int) -> np.ndarray:
    """Return actions int64 [64, N], which are taken over and over."""
    return np.random.default_rng(0).integers(num_actions, size=(64, num_envs))


def _per_million(play: Callable[[], None], steps: int, num_envs: int) -> float:
    return timed(play) * MILLION / (steps // num_envs * num_envs)


def stepped(env_id: str, num_envs: int, steps: int) -> Work:
    """Return stepping a vectorised form beside Gymnasium's vector of single environments."""
    return Work(
        f"a million random steps of {env_id} in seeded episodes, N = {num_envs}",
        "gymnasium SyncVectorEnv",
        lambda: played_seconds(make_envs(env_id, num_envs), steps),
        lambda: gymnasium_seconds(env_id, num_envs, steps),
    )


def recorded(num_envs: int, steps: int) -> Work:
    """Return a run of the random agent, recorded, beside the same episodes played alone."""

    def ours() -> float:
        seconds = lab_seconds("random", total_steps=steps, num_envs=num_envs, pictures=False)
        return seconds * MILLION / steps

    return Work(
        f"a million random steps of CartPole-v1, acted and recorded in a run, N = {num_envs}",
        "the environments alone",
        ours,
        lambda: played_seconds(make_envs("CartPole-v1", num_envs), steps),
    )


def acting_and_storing(num_envs: int, steps: int) -> Work:
    """Return acting and storing of DQN without gradient steps, beside SB3's."""
    fields: dict[str, Any] = {
        "total_steps": steps,
        "num_envs": num_envs,
        "hidden": (64, 64),
        "gradient_steps_per_update": 0,
        "learning_starts_env_steps": 0,
        "train_period_env_steps": 4 * num_envs,
        "target_period_env_steps": 400 * num_envs,
        "replay_capacity": 100_000 // num_envs * num_envs,
        "epsilon_initial": 0.1,
        "epsilon_final": 0.1,
    }
    return Work(
        f"DQN acts and stores, CartPole-v1, N = {num_envs}, MLP 64-64, {steps} steps",
        "sb3",
        partial(lab_seconds, "dqn", **fields),
        partial(plain_sb3_dqn_seconds, steps, num_envs, **sb3_arguments(fields)),
    )


def plain_sb3_dqn_seconds(total_steps: int, num_envs: int, **arguments: Any) -> float:
    """Train SB3's DQN in several environments as its own users do and return the seconds of learn()."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    model = DQN("MlpPolicy", make_vec_env("CartPole-v1", num_envs), seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


def learning(num_envs: int, steps: int) -> Work:
    """Return PPO with one epoch of large batches, beside SB3's."""
    fields: dict[str, Any] = {"n_steps": 32, "batch_size": 32 * num_envs // 4, "n_epochs": 1}
    arguments = sb3_arguments(fields | {"num_envs": num_envs}, "sb3-ppo")
    return Work(
        f"PPO learns, CartPole-v1, N = {num_envs}, 4 gradient steps for 32 vector steps, {steps} steps",
        "sb3",
        partial(lab_seconds, "ppo", total_steps=steps, num_envs=num_envs, **fields),
        partial(plain_sb3_ppo_seconds, steps, num_envs, **arguments),
    )


def vectors(steps: int = 102_400, beside_sb3: int = 25_600, numbers: tuple[int, ...] = NUMBERS) -> list[Work]:
    """Return playing, recording, acting, storing and learning in 8 to 512 environments.

    Args:
        steps: of the environments alone, and of recording.
        beside_sb3: of a run beside SB3's.
    """
    return [
        *(stepped(env_id, n, steps) for env_id in STEPPED for n in numbers),
        *(recorded(n, steps) for n in numbers),
        *(acting_and_storing(n, beside_sb3) for n in numbers),
        *(learning(n, beside_sb3) for n in numbers),
    ]

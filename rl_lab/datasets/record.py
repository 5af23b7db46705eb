"""Records the transitions of any policy, for agents that learn from them without acting.

    record_dataset(rl_lab.load_policy("runs/a"), lambda: rl_lab.make_env("CartPole-v1"), "data/a", episodes=100)
    rl_lab.learn("dqn", "CartPole-v1", dataset="data/a")

Agents that learn purely from recorded data may overestimate actions that the data doesn't contain (see
`training.experience`). `epsilon` mixes in random actions, so that the data contains more of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.datasets.dataset import RecordedEpisode
from rl_lab.datasets.writer import new_dataset
from rl_lab.environments.actions import action_dtype, joined_actions, mask_size
from rl_lab.environments.draws import draw_legal
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector, VectorEnv
from rl_lab.policies import random_actions
from rl_lab.seeding import seed_of
from rl_lab.storage.versions import versions
from rl_lab.trees import join_leaves
from rl_lab.types import Array, Decision, Obs, State, UsageError


def record_dataset(
    policy: Policy,
    make: Callable[[], gymnasium.Env],
    path: str | Path,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    epsilon: float = 0.0,
    max_episode_steps: int = 10_000,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Play a policy and write its episodes as a Minari dataset.

    Episode e starts from `recorded_seed(seed, e)`, which no training or evaluation episode of a run uses.

    Args:
        make: makes the environment, wrapped as for training.
        path: folder of the dataset, which must not exist or be empty.
        episodes: how many to play; 100 if neither this nor `steps` is given.
        steps: number of transitions after which to stop, leaving the episode unfinished if necessary.
        epsilon: probability of a uniformly random (legal) action instead of the policy's.
        max_episode_steps: limit for episodes that the environment doesn't end; they are left unfinished.
        provenance: further facts for the metadata, as JSON.

    Returns:
        The counts of episodes and steps, and what the metadata holds under "rl_lab".

    Raises:
        UsageError: an argument is out of range, the path is occupied, or the spaces can't be recorded.
        NotWritten: the file system refused.
    """
    if episodes is None and steps is None:
        episodes = 100
    _require_valid(episodes, steps, epsilon, max_episode_steps)
    envs = SingleVector(make())
    try:
        with new_dataset(path, envs.single_observation_space, envs.single_action_space) as writer:
            writer.metadata |= described_environment(envs.env) | {
                "algorithm_name": str((provenance or {}).get("agent", ""))
            }
            acting = EpsilonRandom(policy, envs.single_action_space, epsilon, seed) if epsilon else policy
            for number, episode in enumerate(play(acting, envs, seed, episodes, steps, max_episode_steps)):
                writer.add(episode, recorded_seed(seed, number))
            writer.provenance |= {"seed": seed, "epsilon": epsilon, **(provenance or {})}
            writer.provenance |= {**_return_range(writer.returns), "versions": versions()}
            return {"episodes": len(writer.returns), "steps": writer.steps} | writer.provenance
    finally:
        envs.close()


def _return_range(returns: list[float]) -> dict[str, float]:
    return {
        "episode_return_mean": float(np.mean(returns)),
        "episode_return_min": min(returns),
        "episode_return_max": max(returns),
    }


def recorded_seed(seed: int, episode: int) -> int:
    """Return the seed with which recorded episode `episode` starts."""
    return seed_of(seed, "record", episode)


def _require_valid(episodes: int | None, steps: int | None, epsilon: float, max_episode_steps: int) -> None:
    for name, value in (("episodes", episodes), ("steps", steps), ("max_episode_steps", max_episode_steps)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if not 0.0 <= epsilon <= 1.0:
        raise UsageError(f"epsilon must be between 0 and 1, got {epsilon}")


def described_environment(env: gymnasium.Env) -> dict[str, str]:
    """Return the entry of the metadata from which the environment can be made again; {} if it can't be as JSON."""
    try:
        return {"env_spec": env.spec.to_json()} if env.spec is not None else {}
    except (ValueError, TypeError):  # for example if its entry point is a class
        return {}


# Playing -----------------------------------------------------------------------------------------------


def play(
    policy: Policy,
    envs: VectorEnv,
    seed: int,
    episodes: int | None,
    steps: int | None,
    max_episode_steps: int,
) -> Iterator[RecordedEpisode]:
    """Yield seeded episodes in a vector of one, until `episodes` episodes or `steps` transitions were played."""
    state, played, taken = policy.initial_state(1), 0, 0
    while (episodes is None or played < episodes) and (steps is None or taken < steps):
        limit = max_episode_steps if steps is None else min(max_episode_steps, steps - taken)
        episode, state = play_episode(policy, envs, state, recorded_seed(seed, played), limit)
        yield episode
        played, taken = played + 1, taken + len(episode)


def play_episode(
    policy: Policy, envs: VectorEnv, state: State, seed: int, limit: int
) -> tuple[RecordedEpisode, State]:
    """Play one episode, or its first `limit` steps; return it and the carry after it."""
    obs, info = envs.reset(seed=[seed])
    observations, infos, outcomes = [obs], [info], []
    for t in range(limit):
        action, state, _ = policy.act(obs, state, np.array([t == 0]), mask_of(info))
        obs, reward, terminated, truncated, info = envs.step(action)
        observations.append(obs)
        infos.append(info)
        outcomes.append((action, reward, terminated, truncated))
        if terminated[0] or truncated[0]:
            break
    actions, rewards, terminations, truncations = zip(*outcomes, strict=True)
    masks = np.concatenate([i["action_mask"] for i in infos]) if "action_mask" in infos[0] else None
    return RecordedEpisode(
        observations=join_leaves(np.concatenate, observations),
        actions=np.concatenate(actions).astype(action_dtype(envs.single_action_space), copy=False),
        rewards=np.concatenate(rewards),
        terminations=np.concatenate(terminations),
        truncations=np.concatenate(truncations),
        masks=masks,
    ), state


class EpsilonRandom:
    """Replaces a policy's actions by random legal ones with probability `epsilon`, in any action space."""

    def __init__(self, policy: Policy, space: spaces.Space, epsilon: float, seed: int):
        self._policy, self._epsilon = policy, epsilon
        self._rng = np.random.Generator(np.random.PCG64(seed_of(seed, "record", "actions")))
        self._space = copy.deepcopy(space)
        self._space.seed(seed_of(seed, "record", "samples"))

    def initial_state(self, num_envs: int) -> State:
        """Return the policy's carry at the start of an episode."""
        return self._policy.initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Let the policy act, [N, ...], and replace some of its actions."""
        decision = self._policy.act(obs, state, is_first, mask)
        action = np.array(decision.action)
        random = self._rng.random(len(action)) < self._epsilon
        if random.any():
            action[random] = self._draw(len(action), mask)[random]
        return Decision(action, decision.state)

    def _draw(self, num_envs: int, mask: Array | None) -> Array:
        if isinstance(self._space, spaces.Discrete):
            return self._space.start + random_actions(self._rng, num_envs, int(self._space.n), mask)
        if mask is not None and mask_size(self._space):
            return draw_legal(self._space, self._rng, num_envs, mask)
        return joined_actions(self._space, [self._space.sample() for _ in range(num_envs)])

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the policy's own figures [N, ...], without its probabilities, which no longer describe the actions."""
        seen = self._policy.inspect(obs, state, is_first, mask)
        return {name: value for name, value in seen.items() if name != "probabilities"}

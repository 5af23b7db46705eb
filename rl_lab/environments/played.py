"""Plays episodes of an environment and keeps them, so that they can be played again and compared to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.environments.actions import single_action
from rl_lab.environments.contract import Contract
from rl_lab.environments.draws import draw_from_space, draw_legal
from rl_lab.environments.masks import KEY
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, Obs


@dataclass
class Played:
    """One episode as it was played."""

    seed: int
    observations: list[Obs]  # T + 1, as they were when they came
    actions: list[Any]  # T
    outcomes: list[tuple[float, bool, bool]]  # T of (reward, terminated, truncated)
    masks: list[Array | None]  # T + 1, bool [A]
    returned: list[Obs]  # T + 1, as they are now: an environment may change what it has returned

    def masks_to_act_by(self) -> list[Array]:
        """Return the masks but for that of an ended episode, in which no action is taken any more."""
        over = bool(self.outcomes) and self.outcomes[-1][1]
        return [mask for mask in (self.masks[:-1] if over else self.masks) if mask is not None]

    def first(self, steps: int) -> Played:
        """Return what was played up to a step."""
        upto = steps + 1
        return Played(
            self.seed, self.observations[:upto], self.actions[:steps], self.outcomes[:steps], self.masks[:upto],
            self.returned[:upto],
        )  # fmt: skip

    def difference(self, other: Played) -> str | None:
        """Return where two episodes differ first, or None if they are equal to the bit."""
        for t, (one, two) in enumerate(zip(self.observations, other.observations, strict=False)):
            if not equal(one, two) or not equal(self.masks[t], other.masks[t]):
                return f"step {t}" if t else "the reset"
            if t < min(len(self.outcomes), len(other.outcomes)) and self.outcomes[t] != other.outcomes[t]:
                return f"step {t + 1}"
        lengths = len(self.outcomes), len(other.outcomes)
        return None if lengths[0] == lengths[1] else f"step {min(lengths) + 1}"


def never(steps: int) -> bool:
    """Say that so many steps aren't enough."""
    return False


def play_episode(
    env: Contract,
    seed: int,
    choose: Callable[[int, Array | None], Any],
    max_steps: int,
    enough: Callable[[int], bool] = never,
) -> Played:
    """Play one episode, cut after `max_steps` or where it is enough (asked after each step).

    Args:
        choose: gets the step's number and the mask, bool [A] or None.

    Raises:
        EnvironmentFault: the environment fails, or breaks its contract.
    """
    obs, info = env.reset(seed=seed)
    episode = Played(seed, [copied(obs)], [], [], [info.get(KEY)], [obs])
    for t in range(max_steps):
        action = choose(t, episode.masks[-1])
        obs, reward, terminated, truncated, info = env.step(action)
        episode.actions.append(action)
        episode.observations.append(copied(obs))
        episode.returned.append(obs)
        episode.outcomes.append((float(reward), terminated, truncated))
        episode.masks.append(info.get(KEY))
        if terminated or truncated or enough(t + 1):
            break
    return episode


def random_actions(env: Contract, rng: np.random.Generator) -> Callable[[int, Array | None], Any]:
    """Return a choice of legal actions at random, as `play_episode` asks for it."""
    space, single = env.action_space, single_action(env.action_space)

    def choose(t: int, mask: Array | None) -> Any:
        if mask is None:
            return draw_from_space(space, rng)
        return single(draw_legal(space, rng, 1, mask[None]))

    return choose


def replay(env: Contract, episode: Played, enough: Callable[[int], bool] = never) -> Played:
    """Play an episode again from its seed and actions, until it is enough or where the environment ends it."""
    return play_episode(env, episode.seed, lambda t, mask: episode.actions[t], len(episode.actions), enough)


def copied(obs: Obs) -> Obs:
    """Return a copy of an observation."""
    return map_leaves(np.copy, obs)


def equal(one: Any, two: Any) -> bool:
    """Return whether two observations or masks are equal to the bit."""
    pairs = zip(leaves_of(one, sort_keys=True), leaves_of(two, sort_keys=True), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)

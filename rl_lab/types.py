"""The data that environments, agents, learners and the training loop hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import gymnasium

Array = np.ndarray
Obs = Any  # an array [N, ...], or a dict or tuple of them
State = Any  # a carry: nested tuples of arrays [N, ...]; () when memoryless
Metrics = Mapping[str, float]


class UsageError(ValueError):
    """A wrong argument. The message is one line that names the value and what is allowed; commands exit with 2."""


class Fault(RuntimeError):
    """Something failed through no mistake in the arguments. The message is one line; commands exit with 1."""


class EnvironmentFault(Fault):
    """An environment broke its contract, raised an error, hung or died; commands exit with 1.

    The message is one line that names the environment, its place in the vector, the seed and step of the
    episode, the field, what came and what is allowed.
    """


class OneLineWarning(UserWarning):
    """What a person should know of a run that goes on all the same; commands show it as one line."""


class EnvironmentWarning(OneLineWarning):
    """What a person should know of an environment that goes on all the same."""


class Decision(NamedTuple):
    """A policy's answer to one vector of observations."""

    action: Array  # [N, ...]
    state: State = ()  # the carry after this observation
    extras: Mapping[str, Array] = {}  # each [N, ...]: what the policy wants stored with the step


@dataclass(slots=True)
class Step:
    """One vector step; every array leads with [N].

    `next_obs` is always the true successor, never the observation of a reset. At `is_first`,
    `state` is still the previous episode's carry: zero it before storing.
    """

    obs: Obs
    action: Array
    reward: Array  # float64 [N]
    terminated: Array  # bool [N]: zero the bootstrap (a lost life too, where asked for)
    truncated: Array  # bool [N]: the episode is over, keep the bootstrap
    next_obs: Obs
    is_first: Array  # bool [N]: obs opened an episode
    state: State
    next_state: State
    mask: Array | None  # bool [N, A]: legal actions at obs; None without masks
    next_mask: Array | None  # bool [N, A]: legal actions at next_obs
    extras: Mapping[str, Array] = field(default_factory=dict)
    checked: bool = False  # observations are known to be finite in their own dtype


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What an agent may know about an environment before the first step."""

    env_id: str
    observation_space: gymnasium.Space  # of a single environment
    action_space: gymnasium.Space
    num_envs: int
    max_episode_steps: int | None  # the time limit in agent decisions; None without one
    has_mask: bool  # info carries "action_mask"
    has_lives: bool = False  # a lost life zeroes the bootstrap, and the episode goes on
    frame_stack: int = 1  # frames stacked along the observation's leading axis; 1 means no stacking
    frames_per_step: int | None = None  # of an Atari or MinAtar game, for which an action is held

    @property
    def first_action(self) -> int:
        """The smallest action of a Discrete space; 0 for other spaces."""
        start = getattr(self.action_space, "start", 0)
        return int(start) if np.ndim(start) == 0 else 0


class Cursor(NamedTuple):
    """The point that training has reached: everything the loop needs in order to continue."""

    obs: Obs
    is_first: Array  # bool [N]
    state: State
    mask: Array | None
    env_steps: int  # agent decisions, summed over the vector
    episodes: tuple[int, ...]  # [N]: the number of each environment's open episode

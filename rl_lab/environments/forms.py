"""Vectorised forms: environments that hold all their episodes in arrays, and step them at once.

Gymnasium's `make_vec` names such a form in `vector_entry_point`. What is used of it is a vector without autoreset that
takes a seed for each environment and a mask (`reset(seed=[...], options={"reset_mask": done})`). Its class says with
`equals_single_envs = True` that each of its episodes is the one that a single environment plays, with the same seed and
actions, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.utils.seeding import np_random
from gymnasium.vector import VectorEnv

from rl_lab.types import Array, UsageError

FEWEST = 8  # environments: a form of fewer takes longer than single ones
# Forms that take the place of Gymnasium's own, which draw all episodes from one generator and reset them by themselves.
SEEDED = {
    "gymnasium.envs.classic_control.cartpole:CartPoleVectorEnv": "rl_lab.environments.cartpole:CartPoleVector",
}
# Arguments that ask for more than a form does.
MAKING = frozenset(
    ("render_mode", "num_envs", "vectorization_mode", "vector_kwargs", "wrappers", "disable_env_checker")
)


FormMaker = Callable[..., VectorEnv]


def form_maker(env_id: str, env_kwargs: Mapping[str, Any], *, must_load: bool = False) -> FormMaker | None:
    """Return what makes the vectorised form of an environment with these arguments; None if it has none.

    Args:
        must_load: raise an ImportError where the form can't be imported; otherwise there is none then.
    """
    spec = gymnasium.registry.get(env_id.rpartition(":")[2])
    if spec is None or spec.additional_wrappers or MAKING & {**spec.kwargs, **env_kwargs}.keys():
        return None
    entry_point: Any = spec.vector_entry_point
    if not isinstance(entry_point, str):
        return entry_point
    try:
        maker: Any = load_env_creator(SEEDED.get(entry_point, entry_point))
    except ImportError:
        if must_load:
            raise
        return None
    return maker


def make_form(env_id: str, maker: FormMaker, num_envs: int, env_kwargs: Mapping[str, Any]) -> VectorEnv:
    """Make the vectorised form of an environment with what `form_maker` returned."""
    limit = "max_episode_steps"  # None means what the spec says
    kwargs = {key: value for key, value in env_kwargs.items() if key != limit or value is not None}
    spec = gymnasium.registry[env_id.rpartition(":")[2]]
    return gymnasium.make_vec(replace(spec, vector_entry_point=maker), num_envs, **kwargs)


def equals_single_envs(form: Any) -> bool:
    """Return whether a form, or what makes it, promises that it plays what single environments play."""
    return bool(getattr(form, "equals_single_envs", False))


class Generators:
    """One random generator for each of N environments, seeded as single environments seed theirs.

    It is made when it is first asked for: that takes longer than a step of most environments, and some never draw.
    """

    def __init__(self, num_envs: int):
        self._made: list[np.random.Generator | None] = [None] * num_envs
        self._seeds: list[int | None] = [None] * num_envs

    def open(self, seed: int | Sequence[int | None] | None, options: Mapping[str, Any] | None) -> Array:
        """Seed the generators of the environments that a reset is for.

        Args:
            seed: one for each environment, [N]; None draws on. An int is the first of consecutive ones.
            options: with the mask of those to be reset, bool [N], in "reset_mask"; without it all are.

        Returns:
            The places of these environments, int64 [K].

        Raises:
            UsageError: there aren't N seeds, or the mask isn't bool [N].
        """
        count = len(self._seeds)
        seeds = [seed + i for i in range(count)] if isinstance(seed, int) else seed
        seeds = [None] * count if seeds is None else seeds
        mask = (
            np.ones(count, np.bool_)
            if options is None
            else options.get("reset_mask", np.ones(count, np.bool_))
        )
        if len(seeds) != count or np.shape(mask) != (count,) or np.asarray(mask).dtype != np.bool_:
            raise UsageError(
                f"{len(seeds)} seeds and a mask of shape {np.shape(mask)} reset no {count} environments"
                f" (allowed: {count} seeds, and bool of shape ({count},))"
            )
        opened = np.flatnonzero(mask)
        for i in opened.tolist():
            if seeds[i] is not None:
                self._made[i], self._seeds[i] = None, seeds[i]
        return opened

    def __getitem__(self, i: int) -> np.random.Generator:
        """Return the generator of environment i, as it is after what was drawn from it since its seed."""
        generator = self._made[i]
        if generator is None:
            generator = self._made[i] = np_random(self._seeds[i])[0]
        return generator

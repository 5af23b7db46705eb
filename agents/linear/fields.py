"""The fields that all linear learners share, the features and the exploration that they configure, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import comb, prod
from typing import ClassVar, Literal, TypeVar, get_args

import numpy as np
from gymnasium import spaces

from rl_lab.checks import at_least, one_of, show_space, widths, within
from rl_lab.environments.table_rows import count_rows, make_row_of
from rl_lab.problem import Problem
from rl_lab.schedules import Schedule, linear
from rl_lab.types import Array, EnvSpec, UsageError

from .features import Features, Fourier, OneHot, Raw, Tiles, UnitCube, fourier_coefficients

Kind = Literal["auto", "tiles", "fourier", "one-hot", "raw"]
KINDS = get_args(Kind)
UNBOUNDED = 1e30  # bounds from here on count as infinite, such as the largest float32
OTHER_ACTIONS = "(allowed: Discrete; ppo, a2c and reinforce take others)"
FIELDS_OF = {  # those that one kind alone has
    "tiles": ("tilings", "tiles"),
    "fourier": ("fourier_order", "fourier_interactions"),
}

C = TypeVar("C", bound="LinearFields")


@dataclass(frozen=True)
class LinearFields:
    """Fields of the features, the discount and epsilon-greedy exploration."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "features": (
            "features", "tilings", "tiles", "fourier_order", "fourier_interactions", "low", "high",
        ),
        "exploration": ("epsilon_initial", "epsilon_final", "epsilon_fraction"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = (
        "gamma", "features", "tilings", "tiles", "fourier_order", "low", "high", "epsilon_initial", "epsilon_final",
        "epsilon_fraction",
    )  # fmt: skip

    features: Kind = "auto"
    """Tile coding; the Fourier basis; one feature for each discrete observation; or the entries of the observation.
    Auto: one-hot for discrete observations, otherwise tiles."""
    tilings: int = 8
    """Grids of the tile coding; a power of 2 of at least 4 times the dimensions spreads them evenly."""
    tiles: tuple[int, ...] = (8,)
    """Tiles of a grid along each dimension of the observation; one number stands for all."""
    fourier_order: int = 3
    """Largest coefficient of the Fourier basis: half waves between the bounds of a dimension."""
    fourier_interactions: int | None = None
    """Most dimensions that one feature of the Fourier basis combines; None: all."""
    low: tuple[float, ...] | None = None
    """Lower bound of each dimension, for tiles and fourier; None: those of the space. Observations are moved within."""
    high: tuple[float, ...] | None = None
    """Upper bound of each dimension, for tiles and fourier; None: those of the space."""
    gamma: float = 0.99
    """Discount per environment step."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.1
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.5
    """Share of the budget over which epsilon falls linearly."""

    def resolve(self: C, problem: Problem) -> C:
        """Return the config with the features "auto" decided."""
        return replace(self, features=_kind(self, problem.spec.observation_space))

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing, and what each would need; none before the features "auto" are decided."""
        others = {} if self.features == "auto" else {k: v for k, v in FIELDS_OF.items() if k != self.features}
        return {name: f"features {kind}" for kind, names in others.items() for name in names}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        falls = self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        return ("epsilon_fraction",) * falls

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        one_of(self, "features", KINDS)
        at_least(self, 1, "tilings", "fourier_order", "fourier_interactions")
        widths(self, "tiles")
        if not self.tiles:
            raise UsageError("tiles must be whole numbers from 1, got none")
        within(self, 0.0, 1.0, "gamma", "epsilon_initial", "epsilon_final", "epsilon_fraction")
        _check_bounds(self.low, self.high)


def _check_bounds(low: tuple[float, ...] | None, high: tuple[float, ...] | None) -> None:
    if low is None or high is None:
        return
    if len(low) != len(high):
        raise UsageError(f"low has {len(low)} numbers and high {len(high)}; they must have as many")
    for one, other in zip(low, high, strict=True):
        if not one < other:
            raise UsageError(f"low {one} must be below high {other}")


def epsilon_of(config: LinearFields, horizon: int) -> Schedule:
    """Return the probability of a random action as a function of the environment step."""
    return linear(config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * horizon)


def make_features(config: LinearFields, space: spaces.Space) -> Features:
    """Return the features of a space that `refuse_features` lets pass."""
    kind = _kind(config, space)
    if kind == "one-hot":
        return OneHot(make_row_of(space), _rows(space))
    assert isinstance(space, spaces.Box)
    dimensions = prod(space.shape)
    if kind == "raw":
        return Raw(dimensions)
    read = UnitCube(*bounds_of(config, space)).read
    if kind == "tiles":
        return Tiles(read, config.tilings, _tiles(config, dimensions))
    return Fourier(read, fourier_coefficients(dimensions, config.fourier_order, config.fourier_interactions))


def bounds_of(config: LinearFields, space: spaces.Box) -> tuple[Array, Array]:
    """Return the lower and upper bounds of each dimension, float64 [D]: the given ones, or those of the space."""
    low, high = (
        np.asarray(bound if given is None else given, np.float64).ravel()
        for bound, given in ((space.low, config.low), (space.high, config.high))
    )
    return low, high


def _kind(config: LinearFields, space: spaces.Space) -> Kind:
    if config.features != "auto":
        return config.features
    return "tiles" if count_rows(space) is None else "one-hot"


def _rows(space: spaces.Space) -> int:
    rows = count_rows(space)
    assert rows is not None
    return rows


def _tiles(config: LinearFields, dimensions: int) -> tuple[int, ...]:
    return config.tiles * dimensions if len(config.tiles) == 1 else config.tiles


def count_features(config: LinearFields, space: spaces.Space) -> int:
    """Return how many features there would be, without making them."""
    kind = _kind(config, space)
    if kind == "one-hot":
        return _rows(space)
    assert isinstance(space, spaces.Box)
    dimensions = prod(space.shape)
    if kind == "raw":
        return dimensions
    if kind == "tiles":
        return config.tilings * prod(tiles + 1 for tiles in _tiles(config, dimensions))
    most = dimensions if config.fourier_interactions is None else config.fourier_interactions
    return sum(comb(dimensions, k) * config.fourier_order**k for k in range(min(most, dimensions) + 1))


def refuse_features(agent: str, config: LinearFields, spec: EnvSpec, most_weights: int) -> str | None:
    """Return why features can't be made of these spaces (one line), or None if they can.

    Args:
        agent: its name, for the message.
        most_weights: that the agent takes, over all actions.
    """
    space, actions = spec.observation_space, spec.action_space
    if not isinstance(actions, spaces.Discrete):
        return f"{agent} needs Discrete actions; {spec.env_id} has {show_space(actions)} {OTHER_ACTIONS}"
    kind = _kind(config, space)
    if (reason := _refuse_space(agent, kind, config, space, spec.env_id)) is not None:
        return reason
    count = count_features(config, space)
    if (weights := count * int(actions.n)) > most_weights:
        return (
            f"{agent} would need {_few(weights)} weights for {spec.env_id}, {_few(count)} features ({kind}) of"
            f" {int(actions.n)} actions (allowed: up to {most_weights})"
        )
    return None


def _refuse_space(
    agent: str, kind: str, config: LinearFields, space: spaces.Space, env_id: str
) -> str | None:
    found = show_space(space)
    if kind in ("one-hot", "raw") and (given := [name for name in ("low", "high") if getattr(config, name)]):
        return f"{given[0]} {getattr(config, given[0])} does nothing for features {kind!r} of {agent} on {env_id}"
    if kind == "one-hot":
        if count_rows(space) is not None:
            return None
        return f"features 'one-hot' of {agent} need discrete observations; {env_id} has {found}"
    if not isinstance(space, spaces.Box) or not prod(space.shape):
        return f"features {kind!r} of {agent} need a Box; {env_id} has {found} (allowed: one-hot for discrete spaces)"
    if kind == "raw":
        return None
    dimensions = prod(space.shape)
    if kind == "tiles" and len(config.tiles) not in (1, dimensions):
        return f"tiles has {len(config.tiles)} numbers; the observations of {env_id} have {dimensions} dimensions"
    for name in ("low", "high"):
        given = getattr(config, name)
        if given is not None and len(given) != dimensions:
            return (
                f"{name} has {len(given)} numbers; the observations of {env_id} have {dimensions} dimensions"
            )
    low, high = bounds_of(config, space)
    if not ((np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)).all():
        return (
            f"features {kind!r} of {agent} need finite bounds; {env_id} has low {_shown(low)} and high {_shown(high)}"
            f" (give low and high, {dimensions} numbers each)"
        )
    if not (low < high).all():
        return f"low must be below high in each dimension, got low {_shown(low)} and high {_shown(high)}"
    return None


def _few(number: int) -> str:
    return str(number) if number < 10**12 else "more than 10^12"


def _shown(bounds: Array, most: int = 8) -> str:
    numbers = [f"{bound:.4g}" for bound in bounds[:most]]
    return " ".join(numbers + ["..."] * (len(bounds) > most))

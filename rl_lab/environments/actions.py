"""Actions as one array per vector step, whatever the action space; `env.step` receives what the space describes.

    Discrete                       int64 [N]: the space's own values, which begin at `start`
    MultiDiscrete, MultiBinary     [N, *shape], the space's own values and dtype
    Box                            [N, *shape], the space's dtype; shape may be ()
    Dict, Tuple                    float64 [N, D]: all parts flattened side by side, those of a Dict by sorted key

So replay, rollouts, datasets and the record of episodes store arrays alone. Whole numbers up to 2**53 are exact in
float64, and so are all values of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.checks import show_space
from rl_lab.trees import leaves_of, map_leaves, sorted_keys
from rl_lab.types import Array

Composite = spaces.Dict | spaces.Tuple


# Parts -----------------------------------------------------------------------------------------------


def parts_of(space: Composite) -> list[tuple[Any, spaces.Space]]:
    """Return (key, space) of each part; those of a Dict by sorted key, whatever their order of insertion."""
    if isinstance(space, spaces.Dict):
        return [(key, space.spaces[key]) for key in sorted_keys(space.spaces)]
    return list(enumerate(space.spaces))


def leaf_spaces(space: spaces.Space) -> list[spaces.Space]:
    """Return the spaces that have no parts of their own, in the order of `parts_of`."""
    if isinstance(space, Composite):
        return [leaf for _, part in parts_of(space) for leaf in leaf_spaces(part)]
    return [space]


def _rebuild(space: spaces.Space, leaves: Iterator[Any]) -> Any:
    """Return nested dicts and tuples with these leaves, which come in the order of `leaf_spaces`."""
    if isinstance(space, spaces.Dict):
        return {key: _rebuild(part, leaves) for key, part in parts_of(space)}
    if isinstance(space, spaces.Tuple):
        return tuple(_rebuild(part, leaves) for part in space.spaces)
    return next(leaves)


def counts_of(space: spaces.Space) -> list[int] | None:
    """Return how many values each entry of a discrete space has; None if the space isn't discrete.

    An action mask is bool [N, sum of the counts]: the values of each entry side by side.
    """
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return [int(n) for n in space.nvec.ravel()]
    if isinstance(space, spaces.MultiBinary):
        return [2] * prod(space.shape)
    return None


def mask_size(space: spaces.Space) -> int:
    """Return how many values an action mask tells about, those of all discrete entries; 0 if there are none."""
    return sum(sum(counts_of(leaf) or ()) for leaf in leaf_spaces(space))


def first_of(space: spaces.Space) -> Array:
    """Return the smallest value of each entry of a discrete space, in its shape and dtype."""
    start = getattr(space, "start", 0)
    return np.zeros(space.shape or (), space.dtype) + np.asarray(start, space.dtype)


# Arrays ----------------------------------------------------------------------------------------------


def action_shape(space: spaces.Space) -> tuple[int, ...]:
    """Return the shape of one action in an array of actions."""
    if isinstance(space, Composite):
        return (sum(prod(leaf.shape or ()) for leaf in leaf_spaces(space)),)
    return tuple(space.shape or ())


def action_dtype(space: spaces.Space) -> np.dtype:
    """Return the dtype of an array of actions."""
    return np.dtype(np.float64 if isinstance(space, Composite) else space.dtype)


def stored_dtype(space: spaces.Space) -> np.dtype:
    """Return the dtype in which actions are stored: uint8 for small Discrete spaces, else that of their arrays."""
    if isinstance(space, spaces.Discrete) and space.start >= 0 and int(space.start) + int(space.n) <= 256:
        return np.dtype(np.uint8)
    return action_dtype(space)


def flat_actions(space: spaces.Space, tree: Any) -> Array:
    """Return actions as one array [K, ...], given what the space describes with leaves [K, ...]."""
    if not isinstance(space, Composite):
        return np.asarray(tree)
    leaves = [np.asarray(leaf, np.float64) for leaf in leaves_of(tree, sort_keys=True)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def structured_actions(space: spaces.Space, actions: Array) -> Any:
    """Return an array of actions [K, ...] as what the space describes, with leaves [K, ...].

    Raises:
        ValueError: a value isn't of its part's dtype, such as 0.5 where whole numbers belong.
    """
    if not isinstance(space, Composite):
        return actions
    if actions.shape[1:] != action_shape(space):
        raise ValueError(f"an action has shape {actions.shape[1:]} (allowed: {action_shape(space)})")
    leaves = leaf_spaces(space)
    ends = np.cumsum([prod(leaf.shape or ()) for leaf in leaves])
    columns = np.split(actions, ends[:-1], axis=1)
    return _rebuild(space, iter([_cast(leaf, column) for leaf, column in zip(leaves, columns, strict=True)]))


def _cast(space: spaces.Space, column: Array) -> Array:
    """Return flat values [K, D] in the shape and dtype of a space, [K, ...]."""
    with np.errstate(invalid="ignore", over="ignore"):
        cast = column.astype(space.dtype).reshape(len(column), *(space.shape or ()))
    if cast.dtype.kind in "iub" and not np.array_equal(cast.reshape(column.shape), column):
        raise ValueError(
            f"action {column.tolist()} isn't made of whole numbers, as {show_space(space)} asks for"
        )
    return cast


def first_action(space: spaces.Space) -> Array:
    """Return some valid action [...], if possible without drawing from the space's random generator."""
    if isinstance(space, Composite):
        firsts = [first_action(leaf).astype(np.float64).ravel() for leaf in leaf_spaces(space)]
        return np.concatenate(firsts) if firsts else np.zeros(0)
    if counts_of(space) is not None:
        return first_of(space)
    if isinstance(space, spaces.Box):
        return np.clip(np.zeros_like(space.low), space.low, space.high)
    return np.asarray(space.sample())


# What environments receive ---------------------------------------------------------------------------


def single_action(space: spaces.Space) -> Callable[[Array], Any]:
    """Return a function from an array of one action [1, ...] to what `env.step` takes, a copy.

    It raises ValueError for an action outside the space.
    """
    if isinstance(space, spaces.Discrete):
        first, beyond, int64 = int(space.start), int(space.start) + int(space.n), np.int64

        def discrete(action: Array) -> np.int64:
            a = action.item()  # comparing Python's numbers takes a fifth of the time
            if not first <= a < beyond or (type(a) is not int and a != int(a)):
                raise outside(a, space)
            chosen = action[0]
            return chosen if type(chosen) is int64 else int64(a)

        return discrete

    def any_space(action: Array) -> Any:
        return _rows_of(space, action)[0]

    return any_space


def several_actions(space: spaces.Space) -> Callable[[Array], list[Any]]:
    """Return a function from an array of actions [N, ...] to what each `env.step` takes, copies.

    It raises ValueError for an action outside the space of one environment.
    """
    if isinstance(space, spaces.Discrete):
        first, beyond = int(space.start), int(space.start) + int(space.n)

        def discrete(actions: Array) -> list[Any]:
            for a in actions.tolist():
                if not first <= a < beyond or a != int(a):
                    raise outside(a, space)
            return list(actions.astype(np.int64, copy=False))

        return discrete

    return lambda actions: _rows_of(space, actions)


def vector_action(space: spaces.Space) -> Callable[[Array], Any]:
    """Return a function from an array of actions [N, ...] to what a Gymnasium vector of N environments takes, a copy.

    It raises ValueError for an action outside the space of one environment.
    """
    if isinstance(space, spaces.Discrete):
        first, beyond = int(space.start), int(space.start) + int(space.n)

        def discrete(action: Array) -> Array:
            bad = (action < first) | (action >= beyond) | (action != action.astype(np.int64))
            if np.count_nonzero(bad):
                raise outside(action[np.argmax(bad)], space)
            return action.astype(space.dtype)

        return discrete

    def any_space(action: Array) -> Any:
        rows = _rows_of(space, action)
        if isinstance(space, Composite):
            columns = zip(*(leaves_of(row) for row in rows), strict=True)
            return _rebuild(space, iter([list(column) for column in columns]))
        return np.stack(rows) if space.shape else rows  # rows of numbers would be numpy's scalars

    return any_space


def _rows_of(space: spaces.Space, actions: Array) -> list[Any]:
    """Return each action of [N, ...] as what `env.step` takes, a copy.

    Raises:
        ValueError: one is outside the space.
    """
    tree = structured_actions(space, actions)
    rows = [map_leaves(lambda leaf: np.array(leaf[i]), tree) for i in range(len(actions))]  # noqa: B023
    rows = [_with_numbers(space, row) for row in rows]
    for row in rows:
        if not space.contains(row):
            raise outside(row, space)
    return rows


def _with_numbers(space: spaces.Space, row: Any) -> Any:
    """Return one action with numbers instead of arrays [] where the space is Discrete."""
    if not isinstance(space, Composite):
        return row[()] if isinstance(space, spaces.Discrete) else row
    leaves = zip(leaf_spaces(space), leaves_of(row), strict=True)
    return _rebuild(space, iter([_with_numbers(leaf, x) for leaf, x in leaves]))


def outside(action: Any, space: spaces.Space) -> ValueError:
    """Return the error for an action outside the space."""
    return ValueError(f"action {action} is outside the action space {show_space(space)}")


def joined_actions(space: spaces.Space, actions: Sequence[Any]) -> Array:
    """Return single actions, each as the space describes it, as one array [K, ...]."""
    if not isinstance(space, Composite):
        return np.stack([np.asarray(action) for action in actions])
    rows = [[np.ravel(x) for x in leaves_of(action, sort_keys=True)] for action in actions]
    return np.array([np.concatenate(row) for row in rows], np.float64)

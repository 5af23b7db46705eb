"""Functions on nested dicts and tuples of arrays or tensors: observations, carries, batches, weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to every leaf of nested dicts, tuples and named tuples; None stays None."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {key: map_leaves(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [map_leaves(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return function(tree)


def leaves_of(tree: Any, *, sort_keys: bool = False) -> list[Any]:
    """Return the leaves of nested dicts and tuples in the tree's own order; None has no leaves.

    Args:
        sort_keys: visit dicts by sorted key, so that equal dicts give equal lists.
    """
    if tree is None:
        return []
    if isinstance(tree, dict):
        keys = sorted_keys(tree) if sort_keys else tree
        return [leaf for key in keys for leaf in leaves_of(tree[key], sort_keys=sort_keys)]
    if isinstance(tree, tuple):
        return [leaf for part in tree for leaf in leaves_of(part, sort_keys=sort_keys)]
    return [tree]


def sorted_keys(keys: Iterable[Any]) -> list[Any]:
    """Return the keys of a dict in order; where numbers and texts are mixed, the numbers come first."""
    return sorted(keys, key=lambda key: (isinstance(key, str), key))


def join_leaves(join: Callable[[Sequence[Any]], Any], trees: Sequence[Any]) -> Any:
    """Merge trees of equal structure into one: each leaf is `join` of the corresponding leaves."""
    if isinstance(trees[0], dict):
        return {key: join_leaves(join, [tree[key] for tree in trees]) for key in trees[0]}
    if isinstance(trees[0], tuple):
        return tuple(join_leaves(join, parts) for parts in zip(*trees, strict=True))
    return join(trees)


def flatten_leading(tree: Any) -> Any:
    """Merge the two leading axes of every tensor of a tree: [A, B, ...] becomes [A * B, ...]."""
    return map_leaves(lambda leaf: leaf.flatten(0, 1), tree)

"""What goes into an exported policy and what comes out, as the JSON beside it says."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.environments.actions import Composite, leaf_spaces, parts_of
from rl_lab.types import Array, Obs, State

OBSERVATION, CARRY, IS_FIRST, MASK = "observation", "carry", "is_first", "mask"


@dataclass(frozen=True)
class Input:
    """One array that the policy takes, [N, *shape]."""

    name: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    path: tuple[Any, ...] = ()  # keys that lead to it within a Dict or Tuple observation

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        body = {"name": self.name, "role": self.role, "dtype": self.dtype, "shape": ["N", *self.shape]}
        return body | ({"path": list(self.path)} if self.role == OBSERVATION else {})


@dataclass(frozen=True)
class Signature:
    """The inputs in their order; the outputs are `action`, `scores` and the next carry."""

    inputs: tuple[Input, ...]

    @property
    def observations(self) -> list[Input]:
        """The parts of the observation."""
        return [i for i in self.inputs if i.role == OBSERVATION]

    @property
    def carry(self) -> list[Input]:
        """The parts of the carry."""
        return [i for i in self.inputs if i.role == CARRY]

    @property
    def has_mask(self) -> bool:
        """Whether a mask is among the inputs."""
        return any(i.role == MASK for i in self.inputs)

    @property
    def names(self) -> list[str]:
        """The names of the inputs."""
        return [i.name for i in self.inputs]

    @property
    def outputs(self) -> list[str]:
        """The names of the outputs."""
        return ["action", "scores", *(f"next_{i.name}" for i in self.carry)]

    def arrays(self, obs: Obs, state: State, is_first: Array, mask: Array | None) -> dict[str, Array]:
        """Return the inputs by name, for observations [N, ...] and the rest of what a policy is given."""
        count, found, parts = len(is_first), {}, iter(state)
        for item in self.inputs:
            if item.role == OBSERVATION:
                leaf = obs
                for key in item.path:
                    leaf = leaf[key]
            elif item.role == CARRY:
                leaf = next(parts)
            elif item.role == IS_FIRST:
                leaf = is_first
            else:
                leaf = np.ones((count, *item.shape), np.bool_) if mask is None else mask
            found[item.name] = np.ascontiguousarray(leaf, item.dtype)
        return found

    def example(self, space: spaces.Space, count: int) -> list[Array]:
        """Return valid inputs in their order, [count, ...]: an observation of the space, and a carry of zeros."""
        found = []
        for item in self.inputs:
            if item.role != OBSERVATION:
                fill = np.zeros if item.role == CARRY else np.ones
                found.append(fill((count, *item.shape), item.dtype))
                continue
            leaf: Any = space
            for key in item.path:
                leaf = leaf.spaces[key]
            first = np.zeros(leaf.shape or (), leaf.dtype) + np.asarray(getattr(leaf, "start", 0), leaf.dtype)
            found.append(np.repeat(first[None], count, axis=0))
        return found


def signature_of(space: spaces.Space, carry: State, mask_size: int) -> Signature:
    """Return the signature for observations of a space, a carry of parts [1, ...], and a mask's values (0: none)."""
    inputs = [
        Input(".".join(["obs", *map(str, path)]), OBSERVATION, str(leaf.dtype), tuple(leaf.shape or ()), path)
        for path, leaf in _paths(space, ())
    ]
    inputs += [Input(f"carry.{k}", CARRY, str(part.dtype), part.shape[1:]) for k, part in enumerate(carry)]
    if carry:
        inputs.append(Input("is_first", IS_FIRST, "bool", ()))
    if mask_size:
        inputs.append(Input("mask", MASK, "bool", (mask_size,)))
    return Signature(tuple(inputs))


def tree_of(space: spaces.Space, arrays: list[Any]) -> Any:
    """Return nested dicts and tuples as the space describes them, of arrays in the order of the signature."""
    left = iter(arrays)

    def build(part: spaces.Space) -> Any:
        if isinstance(part, spaces.Dict):
            return {key: build(sub) for key, sub in parts_of(part)}
        if isinstance(part, spaces.Tuple):
            return tuple(build(sub) for sub in part.spaces)
        return next(left)

    return build(space)


def described_actions(space: spaces.Space) -> dict[str, Any]:
    """Return an action space as JSON; of Dict and Tuple ones with where each part lies in the flat output."""
    at = 0

    def describe(part: spaces.Space) -> dict[str, Any]:
        nonlocal at
        if isinstance(part, spaces.Dict):
            return {"kind": "Dict", "parts": {str(key): describe(sub) for key, sub in parts_of(part)}}
        if isinstance(part, spaces.Tuple):
            return {"kind": "Tuple", "parts": [describe(sub) for sub in part.spaces]}
        shape = tuple(part.shape or ())
        start, at = at, at + prod(shape)
        body = {"kind": type(part).__name__, "dtype": str(part.dtype), "shape": list(shape)}
        return body | {"slice": [start, at]} | _limits(part)

    return describe(space)


def _limits(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.Box):
        return {"low": _bounds(space.low), "high": _bounds(space.high)}
    return {}


def _bounds(bound: Array) -> Any:
    """Return bounds as JSON, which knows no infinity: null where there is none."""
    finite = np.isfinite(bound.astype(np.float64))
    return np.where(finite, bound.astype(object), np.array(None, object)).tolist()


def _paths(space: spaces.Space, path: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], spaces.Space]]:
    if isinstance(space, Composite):
        return [found for key, part in parts_of(space) for found in _paths(part, (*path, key))]
    assert leaf_spaces(space) == [space]
    return [(path, space)]

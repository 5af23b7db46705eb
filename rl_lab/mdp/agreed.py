"""Remembers which environments agree with their models, so that a process plays each of them once for it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import gymnasium
import numpy as np

from rl_lab.mdp.agreement import find_disagreement
from rl_lab.mdp.model import TabularModel

_AGREED: set[tuple[Any, ...]] = set()  # of this process


def find_new_disagreement(env: gymnasium.Env, model: TabularModel) -> str | None:
    """Return what `find_disagreement` finds, or None if an environment like this one has agreed with this model before.

    Environments are alike if their classes, with the methods `step` and `reset`, their wrappers, their arguments and
    their models are the same. One that isn't what its model says is played each time.

    Args:
        env: is reset and stepped, and left freshly reset, unless one like it has been played.
    """
    kind = _kind(env, model)
    if kind in _AGREED:
        return None
    found = find_disagreement(env, model)
    if found is None and kind is not None:
        _AGREED.add(kind)
    return found


def _kind(env: gymnasium.Env, model: TabularModel) -> tuple[Any, ...] | None:
    """Return what environments that are alike share.

    None for one with methods of its own, or with arguments that JSON doesn't have.
    """
    layers: list[Any] = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    if any(name in vars(layer) for layer in layers for name in ("step", "reset")):
        return None
    classes = tuple((type(layer), type(layer).step, type(layer).reset) for layer in layers)
    try:
        arguments = json.dumps(env.spec.kwargs if env.spec is not None else {}, sort_keys=True)
    except (TypeError, ValueError):  # arrays and objects, of which no text tells everything
        return None
    return classes, arguments, _digest(model)


def _digest(model: TabularModel) -> bytes:
    """Return a hash of a model's arrays and of what it shows for each state."""
    digest = hashlib.sha256()
    parts = (model.indptr, model.probability, model.successor, model.reward, model.terminated, model.initial,
             model.available, model.observe(np.arange(model.num_states)))  # fmt: skip
    for part in parts:
        array = np.ascontiguousarray(part)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.digest()

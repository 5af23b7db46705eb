"""Advantages over a rollout as pure functions of numpy arrays; every array is [T, N]."""

from __future__ import annotations

import numpy as np

from rl_lab.types import Array


def trace_stops(terminated: Array, truncated: Array, is_first: Array) -> Array:
    """Return bool [T, N]: after which steps nothing that follows belongs to the same episode.

    That is where the episode ends, where the next step opens another one (a run that was cut at a
    resume) and at the rollout's last step.
    """
    stops = terminated | truncated
    stops[:-1] |= is_first[1:]
    stops[-1] = True
    return stops


def gae(
    reward: Array, value: Array, next_value: Array, terminated: Array, stops: Array, gamma: float, lam: float
) -> Array:
    """Return generalised advantage estimates float64 [T, N] (Schulman et al., 2016, arXiv:1506.02438).

    A_t = delta_t + gamma * lam * A_{t+1} with delta_t = r_t + gamma * (1 - terminated) * V(s_{t+1}) - V(s_t),
    and without its second part where `stops`. With lam = 1 it is the return minus the value.

    Args:
        value: V(s_t).
        next_value: V of the true successor, never of a reset observation; unused where terminated.
        terminated: no bootstrap. A truncated episode keeps its own.
        stops: as `trace_stops` returns them; all true in the last row.
    """
    assert reward.shape == value.shape == next_value.shape == terminated.shape == stops.shape
    assert stops[-1].all()
    following = np.where(terminated, 0.0, next_value)
    deltas = reward + gamma * following - np.asarray(value, np.float64)
    decay = gamma * lam * ~stops
    advantage = np.empty_like(deltas)
    trace = np.zeros(deltas.shape[1:])
    for t in range(len(deltas) - 1, -1, -1):
        trace = advantage[t] = deltas[t] + decay[t] * trace
    return advantage


def explained_variance(prediction: Array, target: Array) -> float:
    """Return 1 - Var(target - prediction) / Var(target): 1 is perfect, 0 no better than a constant.

    Of targets that don't vary it is 0, as nothing is there to explain.
    """
    spread = float(np.var(target))
    return 1.0 - float(np.var(target - prediction)) / spread if spread > 0 else 0.0

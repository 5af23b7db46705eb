"""Advantages and returns over a rollout, as pure functions of numpy arrays; every array is [T, N]."""

from __future__ import annotations

import numpy as np

from rl_lab.types import Array


def trace_stops(terminated: Array, truncated: Array, is_first: Array) -> Array:
    """Return the steps after which the sum of an advantage stops, bool [T, N]; all arguments are bool [T, N].

    These are the last steps of episodes, steps whose successor opens another episode (a resumed run cuts the
    open one) and the rollout's last row.
    """
    stops = terminated | truncated
    stops[:-1] |= is_first[1:]
    stops[-1] = True
    return stops


def gae(
    reward: Array, value: Array, next_value: Array, terminated: Array, stops: Array, gamma: float, lam: float
) -> Array:
    """Return generalised advantage estimates, float64 [T, N].

    Schulman et al. (2016), https://arxiv.org/abs/1506.02438:
    A_t = delta_t + gamma * lam * A_{t+1} with delta_t = r_t + gamma * (1 - terminated) * V(s_{t+1}) - V(s_t),
    where the second term is left out at `stops`. With lam = 1 it is the return minus the value.

    Args:
        reward: r_t, [T, N].
        value: V(s_t), [T, N].
        next_value: V of the true successor, never of a reset observation, [T, N]; unused where terminated.
        terminated: bool [T, N]: steps without a bootstrap. A truncated episode keeps its bootstrap.
        stops: bool [T, N], as `trace_stops` returns them; all True in the last row.
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


def lambda_returns(
    reward: Array, next_value: Array, terminated: Array, stops: Array, gamma: float, lam: float
) -> Array:
    """Return lambda-returns, float64 [T, N], the targets of Q(lambda) if the values are those of the best actions.

    Sutton & Barto (2018), "Reinforcement Learning", section 12.1; Peng & Williams (1996), "Incremental Multi-Step
    Q-Learning": G_t = r_t + gamma * (1 - terminated) * ((1 - lam) * V(s_{t+1}) + lam * G_{t+1}), where V(s_{t+1})
    takes the place of G_{t+1} at `stops`.

    Args:
        reward: r_t, [T, N].
        next_value: V of the true successor, never of a reset observation, [T, N]; unused where terminated.
        terminated: bool [T, N]: steps without a bootstrap. A truncated episode keeps its bootstrap.
        stops: bool [T, N], as `trace_stops` returns them; all True in the last row.
    """
    assert reward.shape == next_value.shape == terminated.shape == stops.shape
    assert stops[-1].all()
    value = np.where(terminated, 0.0, next_value)
    share = lam * ~(stops | terminated)
    returns = np.empty(reward.shape, np.float64)
    following = value[-1]
    for t in range(len(returns) - 1, -1, -1):
        ahead = (1 - share[t]) * value[t] + share[t] * following
        following = returns[t] = reward[t] + gamma * ahead
    return returns


def explained_variance(prediction: Array, target: Array) -> float:
    """Return 1 - Var(target - prediction) / Var(target) of arrays [...] of the same shape.

    1 is perfect and 0 no better than a constant. If the targets don't vary it is 0: there is nothing to explain.
    """
    spread = float(np.var(target))
    return 1.0 - float(np.var(target - prediction)) / spread if spread > 0 else 0.0

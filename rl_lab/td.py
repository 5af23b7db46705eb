"""Temporal-difference targets and losses as pure functions; they take numpy arrays and torch tensors alike."""

from __future__ import annotations

from typing import Any


def q_learning_target(reward: Any, discount: Any, terminated: Any, next_q_max: Any) -> Any:
    """Return r + discount * (1 - terminated) * max_a Q(s', a); shapes [B] (Watkins, 1989).

    A truncated episode keeps its bootstrap: only `terminated` zeroes it.
    """
    return reward + discount * (1 - terminated) * next_q_max


def double_q_target(
    reward: Any, discount: Any, terminated: Any, next_q_online: Any, next_q_target: Any
) -> Any:
    """Return the target of double Q-learning (van Hasselt et al., 2016, "Deep RL with Double Q-learning").

    Args:
        next_q_online: [B, A] chooses the action.
        next_q_target: [B, A] values it.
    """
    best = next_q_online.argmax(-1)[..., None]
    chosen = (
        next_q_target.gather(-1, best)
        if hasattr(next_q_target, "gather")
        else _take_along(next_q_target, best)
    )
    return q_learning_target(reward, discount, terminated, chosen[..., 0])


def _take_along(values: Any, index: Any) -> Any:
    import numpy as np

    return np.take_along_axis(values, index, axis=-1)

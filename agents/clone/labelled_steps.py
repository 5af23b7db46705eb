"""Labelled steps: how label and action are stored, how labelled steps are drawn, and the losses on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from rl_lab.replay.transitions import Uniform
from rl_lab.types import Array, Obs
from rl_lab.updates.td import q_learning_target

NO_LABEL = -1
NO_STEP = -1  # code of a step that isn't learned from


class LabelledBatch(NamedTuple):
    """Steps [B], or windows [T, B], on the device; below, [B] stands for [T, B] in windows."""

    obs: Obs  # [B, ...]; windows: [T + 1, B, ...]
    label: Tensor  # int64 [B]; NO_LABEL where there is none
    action: Tensor  # int64 [B]: the action taken
    counts: Tensor  # bool [B]: learned from, with or without a label
    reward: Tensor  # float32 [B]
    terminated: Tensor  # bool [B]
    next_obs: Obs  # [B, ...]; windows: None
    next_mask: Tensor | None  # bool [B, A]
    state: tuple[Tensor, ...] = ()  # windows: the carry before them, each part [B, ...]


class LabelledSampler(Uniform):
    """Draws uniformly among the labelled steps, by drawing again in place of steps without a label.

    After `tries` further draws the unlabelled steps that are left stay in the batch, where they don't count.
    """

    tries = 100

    def __init__(self, num_actions: int):
        self.codes = np.zeros(0, np.int64)  # [capacity], a view of the replay's own
        self._num_actions = num_actions

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices int64 [B] among the `held` steps from `first` on."""
        index, _ = super().draw(batch_size, rng, first, held, beta)
        for _ in range(self.tries):
            without = np.flatnonzero(self.codes[index] < self._num_actions)
            if not without.size:
                break
            index[without] = super().draw(without.size, rng, first, held, beta)[0]
        return index, None


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the sum [] of -log softmax(logits)[label] over logits [..., A] and labels [...]; NO_LABEL is left out."""
    flat = logits.reshape(-1, logits.shape[-1])
    return nn.functional.cross_entropy(flat, label.reshape(-1), ignore_index=NO_LABEL, reduction="sum")


def encode(label: Array, action: Array, num_actions: int) -> Array:
    """Return labels (or NO_LABEL) and actions [...] as single numbers from 0, int64 [...]; below A without a label."""
    return (label + 1) * num_actions + action


def decode(code: Array, num_actions: int) -> tuple[Array, Array]:
    """Return the labels and actions int64 [...] of codes [...]; NO_STEP gives NO_LABEL and action 0."""
    known = code != NO_STEP
    return np.where(known, code // num_actions - 1, NO_LABEL), np.where(known, code % num_actions, 0)


def td_errors(outputs: Tensor, next_outputs: Tensor, drawn: LabelledBatch, gamma: float) -> Tensor:
    """Return r + gamma * (1 - terminated) * max Q(s', .) - Q(s, a) of each step, [...], or 0 if it doesn't count.

    Args:
        outputs: Q(s, .), [..., A].
        next_outputs: Q(s', .), [..., A].
    """
    if drawn.next_mask is not None:
        next_outputs = next_outputs.masked_fill(~drawn.next_mask, float("-inf"))
    chosen = outputs.gather(-1, drawn.action.unsqueeze(-1)).squeeze(-1)
    target = q_learning_target(drawn.reward, gamma, drawn.terminated.float(), next_outputs.amax(-1))
    assert chosen.shape == target.shape
    return (target - chosen) * drawn.counts

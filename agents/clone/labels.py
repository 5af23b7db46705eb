"""What is learned from: labels beside actions, how labelled steps are drawn, and what is minimised on them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from rl_lab.replay.transitions import Uniform
from rl_lab.types import Array, Obs
from rl_lab.updates.td import q_learning_target

NO_LABEL = -1
NO_STEP = -1  # in place of a code, where a step is not learned from


class LabelledBatch(NamedTuple):
    """Steps [B], or windows [T, B] with `state`, the carry before them, on the device."""

    obs: Obs  # [B, ...]; windows [T + 1, B, ...]
    label: Tensor  # int64; NO_LABEL doesn't count
    action: Tensor  # int64: the one that was taken
    counts: Tensor  # bool: learned from, labelled or not
    reward: Tensor  # float32
    terminated: Tensor  # bool
    next_obs: Obs  # [B, ...]; None for windows
    next_mask: Tensor | None  # bool [..., A]
    state: tuple[Tensor, ...] = ()


class LabelledSampler(Uniform):
    """Draws uniformly among the steps that have a label, by drawing again; what is left after many tries stays."""

    def __init__(self, num_actions: int):
        self.codes = np.zeros(0, np.int64)  # [capacity], a view of the replay's own
        self._num_actions = num_actions

    tries = 100

    def draw(
        self, batch_size: int, rng: np.random.Generator, first: int, held: int, beta: float
    ) -> tuple[Array, None]:
        """Draw indices [B] among the `held` ones from `first` on."""
        index, _ = super().draw(batch_size, rng, first, held, beta)
        for _ in range(self.tries):
            without = np.flatnonzero(self.codes[index] < self._num_actions)
            if not without.size:
                break
            index[without] = super().draw(without.size, rng, first, held, beta)[0]
        return index, None


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Return the sum of -log softmax(logits)[label] over logits [..., A]; NO_LABEL counts nothing."""
    flat = logits.reshape(-1, logits.shape[-1])
    return nn.functional.cross_entropy(flat, label.reshape(-1), ignore_index=NO_LABEL, reduction="sum")


def encode(label: Array, action: Array, num_actions: int) -> Array:
    """Return label (or NO_LABEL) and action as one number, int64 [...] from 0; without a label it is below A."""
    return (label + 1) * num_actions + action


def decode(code: Array, num_actions: int) -> tuple[Array, Array]:
    """Return labels and actions int64 [...]; of NO_STEP there is no label, and action 0."""
    known = code != NO_STEP
    return np.where(known, code // num_actions - 1, NO_LABEL), np.where(known, code % num_actions, 0)


def td_errors(outputs: Tensor, next_outputs: Tensor, drawn: LabelledBatch, gamma: float) -> Tensor:
    """Return r + gamma * (1 - terminated) * max Q(s', .) - Q(s, a) of each step that counts, otherwise 0."""
    if drawn.next_mask is not None:
        next_outputs = next_outputs.masked_fill(~drawn.next_mask, float("-inf"))
    chosen = outputs.gather(-1, drawn.action.unsqueeze(-1)).squeeze(-1)
    target = q_learning_target(drawn.reward, gamma, drawn.terminated.float(), next_outputs.amax(-1))
    assert chosen.shape == target.shape
    return (target - chosen) * drawn.counts

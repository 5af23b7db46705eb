"""Recurrent cores by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from rl_lab.nn.attention import Attention
from rl_lab.nn.recurrent import GRU, LSTM, Core, Elman, Memoryless

_MAKE: dict[str, Callable[[int, int, int, int], Core]] = {
    "none": lambda features, size, layers, context: Memoryless(features),
    "rnn": lambda features, size, layers, context: Elman(features, size, layers),
    "lstm": lambda features, size, layers, context: LSTM(features, size, layers),
    "gru": lambda features, size, layers, context: GRU(features, size, layers),
    "attention": Attention,
}


CORES = tuple(_MAKE)


def make_core(name: str, features: int, size: int, *, layers: int = 1, context: int = 16) -> Core:
    """Make a core by name.

    Args:
        features: width of its inputs.
        size: width of its carry and of its outputs ("none" hands the features on as they are).
        layers: cells, or attention blocks, on top of each other.
        context: steps that attention sees, the present one included; the others see all the episode.
    """
    return _MAKE[name](features, size, layers, context)


def carry_shapes(name: str, size: int, *, layers: int = 1, context: int = 16) -> Sequence[tuple[int, ...]]:
    """Return the shapes of the carry's float32 parts for one environment, without making any weights."""
    with torch.device("meta"):
        state = make_core(name, 1, size, layers=layers, context=context).initial_state(1)
    return [tuple(part.shape[1:]) for part in state]

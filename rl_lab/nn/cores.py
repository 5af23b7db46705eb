"""Makes recurrent cores by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from rl_lab.nn.attention import Attention
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.recurrent import GRU, LSTM, Core, Elman, Memoryless
from rl_lab.types import Array

_MAKE: dict[str, Callable[[int, int, int, int], Core]] = {
    "none": lambda features, size, layers, context: Memoryless(features),
    "rnn": lambda features, size, layers, context: Elman(features, size, layers),
    "lstm": lambda features, size, layers, context: LSTM(features, size, layers),
    "gru": lambda features, size, layers, context: GRU(features, size, layers),
    "attention": Attention,
}


CORES = tuple(_MAKE)


def make_core(fields: NetworkFields, features: int) -> Core:
    """Make the core that `fields.memory` names.

    Its outputs are as wide as its carry; without memory they are the features themselves.

    Args:
        features: width of its inputs.
    """
    return _MAKE[fields.memory](features, fields.memory_size, fields.memory_layers, fields.context)


def blank_carry(fields: NetworkFields) -> tuple[Array, ...]:
    """Return one environment's carry, zeros float32 with parts [1, ...], without making any weights; () without one."""
    with torch.device("meta"):
        state = make_core(fields, 1).initial_state(1)
    return tuple(np.zeros(tuple(part.shape), np.float32) for part in state)

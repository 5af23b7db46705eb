"""Makes recurrent cores by name."""

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
        name: one of CORES.
        features: width of the inputs.
        size: width of the carry and of the outputs; "none" passes the features on as they are.
        layers: number of cells, or attention blocks, on top of each other.
        context: steps that attention sees, the current one included; other cores have no such limit.

    Raises:
        UsageError: attention with a context below 2.
    """
    return _MAKE[name](features, size, layers, context)


def carry_shapes(name: str, size: int, *, layers: int = 1, context: int = 16) -> Sequence[tuple[int, ...]]:
    """Return the shapes of the carry's float32 parts for one environment, without allocating any weights."""
    with torch.device("meta"):
        state = make_core(name, 1, size, layers=layers, context=context).initial_state(1)
    return [tuple(part.shape[1:]) for part in state]

"""A table of a network's layers, shapes and parameters."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.encoders import blank


def summary(module: nn.Module, obs_space: spaces.Space) -> str:
    """Return a table of the layers in the order in which they are called.

    Each line holds a layer's name, its type, the shape of its output (B is the batch) and the number of its own
    parameters; a layer that is called twice is listed once. The last line holds the total.

    Args:
        module: an encoder, or a network that is called with (obs, state, is_first).
        obs_space: the observation space of a single environment.
    """
    rows: dict[str, tuple[str, str, int]] = {}  # by name: type, output shape, parameters
    names = {part: name or "(all)" for name, part in module.named_modules()}
    handles = []
    for part in names:
        own = sum(p.numel() for p in part.parameters(recurse=False))
        if own or not any(True for _ in part.children()):
            handles.append(part.register_forward_hook(_note(rows, names[part], own)))
    try:
        _call(module, blank(obs_space, BATCH))
    finally:
        for handle in handles:
            handle.remove()
    total = sum(p.numel() for p in module.parameters())
    uncalled = total - sum(row[2] for row in rows.values())
    lines: list[tuple[str, ...]] = [("layer", "type", "output", "parameters")]
    lines += [(name, kind, shape, f"{count:,}") for name, (kind, shape, count) in rows.items()]
    lines += [("(not called)", "", "", f"{uncalled:,}")] * bool(uncalled) + [("total", "", "", f"{total:,}")]
    return _table(lines)


BATCH = 3  # differs from the T = 1 of cores, so that the axis of the batch can be recognised


def _note(rows: dict[str, tuple[str, str, int]], name: str, parameters: int) -> Any:
    def note(part: nn.Module, _: Any, output: Any) -> None:
        rows.setdefault(name, (type(part).__name__, _shape(output), parameters))

    return note


def _shape(output: Any) -> str:
    """Return the shape of an output's first tensor as text, with B for the batch."""
    while isinstance(output, tuple | list):
        output = output[0]
    if not isinstance(output, Tensor):
        return "?"
    axes = list(map(str, output.shape))
    batch = 0 if not axes or output.shape[0] == BATCH else 1
    axes[batch : batch + 1] = ["B"]
    return f"[{', '.join(axes)}]"


@torch.no_grad()
def _call(module: nn.Module, obs: Any) -> None:
    initial_state: Any = getattr(module, "initial_state", None)
    if initial_state is not None:
        device = next((p.device for p in module.parameters()), None)
        module(obs, initial_state(BATCH), torch.ones(BATCH, dtype=torch.bool, device=device))
    else:
        module(obs)


def _table(lines: list[tuple[str, ...]]) -> str:
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    left = "  ".join(f"{{:<{width}}}" for width in widths[:-1])
    return "\n".join(f"{left}  {{:>{widths[-1]}}}".format(*line) for line in lines)

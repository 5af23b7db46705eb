"""Optimisers and averaging of weights, thin over torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Return Adam (Kingma & Ba, 2015) with torch's fused update."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


@torch.no_grad()
def polyak_update(source: nn.Module, target: nn.Module, tau: float) -> None:
    """Move target weights towards the source's: target += tau * (source - target); 1 copies."""
    into: list[Tensor] = list(target.parameters())
    out_of: list[Tensor] = list(source.parameters())
    if tau == 1.0:
        torch._foreach_copy_(into, out_of)
    else:
        torch._foreach_lerp_(into, out_of, tau)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's tensors by parameter number; hyperparameters belong to the config."""
    state = optimiser.state_dict()["state"]
    return {str(i): dict(tensors) for i, tensors in state.items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take copies of the tensors of `optimiser_state` in; torch itself would go on writing into them."""
    groups = optimiser.state_dict()["param_groups"]
    tensors = {int(i): {k: torch.as_tensor(v).clone() for k, v in part.items()} for i, part in state.items()}
    optimiser.load_state_dict({"state": tensors, "param_groups": groups})


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Copy weights in, in place, so that views of them stay valid."""
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})

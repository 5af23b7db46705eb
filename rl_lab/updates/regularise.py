"""What keeps weights and gradients small: penalties, decay, clipping, dropout. Thin over torch, in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import Dropout

# Penalties of the loss, and decay beside it ------------------------------------------------------------


def l1_penalty(parameters: Iterable[Tensor], strength: float) -> Tensor:
    """Return strength * sum |w|, to be added to a loss (Tibshirani, 1996); its gradient is strength * sign(w)."""
    return strength * torch.stack([p.abs().sum() for p in parameters]).sum()


def l2_penalty(parameters: Iterable[Tensor], strength: float) -> Tensor:
    """Return strength / 2 * sum w^2, to be added to a loss; its gradient is strength * w, torch's `weight_decay`."""
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()


@torch.no_grad()
def decay_weights(parameters: Iterable[Tensor], learning_rate: float, decay: float) -> None:
    """Shrink weights apart from the gradient: w *= 1 - learning_rate * decay (Loshchilov & Hutter, 2019)."""
    torch._foreach_mul_(list(parameters), 1 - learning_rate * decay)


def regularise(
    optimiser: torch.optim.Optimizer,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    weight_decay: float = 0.0,
    biases: bool = True,
) -> None:
    """Have each step of an optimiser begin with the gradients of the penalties, and with decoupled decay.

    They come behind any clipping, which sees the loss's gradient alone. Without `biases` they leave out all
    parameters with less than two axes (gains of normalisations are among them). Updates that are compiled
    whole don't call `step` and so know nothing of it.
    """
    if not (l1 or l2 or weight_decay):
        return

    @torch.no_grad()
    def before_step(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimiser.param_groups:
            held = [p for p in group["params"] if p.grad is not None and (biases or p.ndim > 1)]
            for p in held:
                p.grad.add_(l1 * p.sign() + l2 * p)
            decay_weights(held, group["lr"], weight_decay)

    optimiser.register_step_pre_hook(before_step)


# Gradients ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """How gradients are bounded: first each entry, then the norm of them all."""

    value: float | None = None
    norm: float | None = None
    normalise: bool = False  # scale up to the norm (None: 1) as well as down

    @property
    def length(self) -> float:
        """The norm to which normalised gradients are scaled."""
        return 1.0 if self.norm is None else self.norm


def differentiate(loss: Tensor, parameters: Sequence[Tensor], clip: Clip) -> Tensor:
    """Leave the bounded gradient of a loss in the parameters; return its norm [] before it was scaled."""
    for parameter in parameters:  # a tenth of what the optimiser's zero_grad() costs
        parameter.grad = None
    loss.backward()
    return bound_gradients(parameters, clip)


def bound_gradients(parameters: Iterable[Tensor], clip: Clip) -> Tensor:
    """Bound the gradients that parameters hold, in place; return their norm [] before it was scaled.

    To the bit what torch's own clipping does (Pascanu et al., 2013), at a third of what that costs.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if clip.value is not None:
        torch._foreach_clamp_min_(gradients, -clip.value)
        torch._foreach_clamp_max_(gradients, clip.value)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if clip.normalise:
        torch._foreach_mul_(gradients, torch.where(norm > 0, clip.length / norm, 0.0))
    elif clip.norm is not None and (scale := clip.norm / (norm + 1e-6)) < 1:
        torch._foreach_mul_(gradients, scale)
    return norm


def bounded_gradients(gradients: dict[str, Tensor], clip: Clip) -> Tensor:
    """Do the same with bare tensors by name, replaced in the dict: for updates that are compiled whole."""
    if clip.value is not None:
        for name, gradient in gradients.items():
            gradients[name] = gradient.clamp(-clip.value, clip.value)
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    if clip.normalise:
        scale = torch.where(norm > 0, clip.length / norm, 0.0)
    elif clip.norm is not None:
        scale = (clip.norm / (norm + 1e-6)).clamp(max=1.0)
    else:
        return norm
    for name, gradient in gradients.items():
        gradients[name] = gradient * scale
    return norm


# Dropout -----------------------------------------------------------------------------------------------


def dropouts_of(network: nn.Module) -> list[Dropout]:
    """Return the layers of a network that can drop."""
    return [part for part in network.modules() if isinstance(part, Dropout)]


@contextmanager
def dropping(*networks: nn.Module) -> Iterator[None]:
    """Drop in these networks' Dropout layers inside of the block: for the loss's forward pass, and it alone.

    Learning is `with dropping(online): loss(online, batch)`. Everywhere else (acting, evaluation, targets,
    averages) nothing is dropped, without any call to `.eval()`. What is dropped is drawn from torch's global
    generator, whose state is in the checkpoint.
    """
    layers = [layer for network in networks for layer in dropouts_of(network)]
    try:
        for layer in layers:
            layer.active = True
        yield
    finally:
        for layer in layers:
            layer.active = False

"""One eager gradient step: differentiate, clip, check, move the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rl_lab.nn.layers import Dropout
from rl_lab.updates.adam import without_subnormals

FLUSH_PERIOD_STEPS = 100


@dataclass(frozen=True)
class Clip:
    """Bounds of gradients: first that of each entry, then that of the norm of all gradients together."""

    value: float | None = None
    norm: float | None = None
    normalise: bool = False  # scale up as well as down to `norm` (to 1 if it is None)

    @property
    def length(self) -> float:
        """The norm to which normalised gradients are scaled."""
        return 1.0 if self.norm is None else self.norm


def take_step(
    loss: Tensor, parameters: Sequence[Tensor], optimiser: torch.optim.Optimizer, clip: Clip, number: int
) -> Tensor:
    """Take gradient step `number` of a run; return the gradient's norm [] before scaling.

    Args:
        loss: [], with its graph.

    Raises:
        FloatingPointError: the loss or the gradient isn't finite; the weights are unchanged.
    """
    norm = differentiate(loss, parameters, clip)
    require_finite(loss.detach(), norm, number)
    optimiser.step()
    flush_subnormals(optimiser, number)
    return norm


def set_learning_rate(optimiser: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the step size of all of an optimiser's parameters."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate


def at_env_step(error: FloatingPointError, env_steps: int) -> FloatingPointError:
    """Return the error with the environment step at which it occurred."""
    return FloatingPointError(f"{error}, env step {env_steps}")


def require_finite(loss: Tensor, norm: Tensor, number: int) -> None:
    """Check the loss [] and the gradient's norm [] of gradient step `number`.

    Raises:
        FloatingPointError: one of them isn't finite.
    """
    if not math.isfinite(loss.item() + norm.item()):  # the gradient of the Huber loss is finite even at inf
        raise FloatingPointError(f"loss {loss.item()}, gradient norm {norm.item()} at gradient step {number}")


def differentiate(loss: Tensor, parameters: Sequence[Tensor], clip: Clip) -> Tensor:
    """Leave the clipped gradient of a loss [] in the parameters' `grad`; return its norm [] before scaling."""
    for parameter in parameters:  # takes a tenth of the time of the optimiser's zero_grad()
        parameter.grad = None
    loss.backward()
    return clip_gradients(parameters, clip)


def clip_gradients(parameters: Iterable[Tensor], clip: Clip) -> Tensor:
    """Clip the gradients in the parameters' `grad`, in place; return their norm [] before scaling.

    Pascanu et al. (2013), "On the difficulty of training recurrent neural networks",
    https://arxiv.org/abs/1211.5063. The results equal those of torch's own clipping to the bit, in a third of its
    time.
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


def clip_named_gradients(gradients: dict[str, Tensor], clip: Clip) -> Tensor:
    """Clip gradients by name, replacing them in the dict; return their norm [] before scaling.

    It does the same as `clip_gradients` without branching on values, for updates that are compiled as a whole.
    """
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


@torch.no_grad()
def flush_subnormals(optimiser: torch.optim.Optimizer, number: int) -> None:
    """Replace subnormal numbers in the optimiser's moments on the CPU by 0, once every FLUSH_PERIOD_STEPS steps.

    Args:
        number: of the gradient step just taken.
    """
    if number % FLUSH_PERIOD_STEPS:
        return
    for state in optimiser.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.is_floating_point() and value.device.type == "cpu":
                value.copy_(without_subnormals(value))


class ActiveDropout:
    """Switches on the Dropout layers of networks inside a `with` block; it can be entered any number of times.

    The block holds the forward pass of the loss: `with active_dropout: loss(online, batch)`. Everywhere else
    (acting, evaluation, targets, averages) nothing is dropped, without any call to `.eval()`. What is dropped is
    drawn from torch's global generator, whose state is part of the checkpoint.
    """

    def __init__(self, *networks: nn.Module):
        self._layers = [part for net in networks for part in net.modules() if isinstance(part, Dropout)]

    def __enter__(self) -> None:
        for layer in self._layers:
            layer.active = True

    def __exit__(self, *_: object) -> None:
        for layer in self._layers:
            layer.active = False

"""Optimisers and averaging of weights, thin over torch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)

ADAM_BETAS, ADAM_EPSILON = (0.9, 0.999), 1e-8
MOMENTUM = 0.9


def sgd(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.SGD:
    """Return gradient descent (Robbins & Monro, 1951): w -= lr * g."""
    return torch.optim.SGD(parameters, lr=learning_rate)


def momentum(parameters: Iterable[Tensor], learning_rate: float, beta: float = MOMENTUM) -> torch.optim.SGD:
    """Return the heavy ball (Polyak, 1964): v = beta * v + g, w -= lr * v."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=beta)


def nesterov(parameters: Iterable[Tensor], learning_rate: float, beta: float = MOMENTUM) -> torch.optim.SGD:
    """Return Nesterov's (1983), as Sutskever et al. (2013) write it: v = beta * v + g, w -= lr * (g + beta * v)."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=beta, nesterov=True)


def adagrad(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adagrad:
    """Return AdaGrad (Duchi et al., 2011): s += g^2, w -= lr * g / (sqrt(s) + 1e-10)."""
    return torch.optim.Adagrad(parameters, lr=learning_rate)


def rmsprop_torch(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.RMSprop:
    """Return RMSprop (Tieleman & Hinton, 2012) as in torch: s = 0.99 s + 0.01 g^2, w -= lr * g / (sqrt(s) + 1e-8)."""
    return torch.optim.RMSprop(parameters, lr=learning_rate)


def adamw(
    parameters: Iterable[Tensor], learning_rate: float, weight_decay: float = 0.01
) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter, 2019): w *= 1 - lr * decay before each step."""
    return torch.optim.AdamW(
        parameters,
        lr=learning_rate,
        betas=ADAM_BETAS,
        eps=ADAM_EPSILON,
        weight_decay=weight_decay,
        fused=True,
    )


def adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Return Adam (Kingma & Ba, 2015) with torch's fused update."""
    return torch.optim.Adam(parameters, lr=learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)


@torch.no_grad()
def polyak_update(source: nn.Module, target: nn.Module, tau: float) -> None:
    """Move target weights towards the source's: target += tau * (source - target); 1 copies.

    Buffers (statistics, not weights) are copied.
    """
    into: list[Tensor] = list(target.parameters())
    out_of: list[Tensor] = list(source.parameters())
    _copy_all(zip(target.buffers(), source.buffers(), strict=True))
    if tau == 1.0:
        torch._foreach_copy_(into, out_of)
    else:
        torch._foreach_lerp_(into, out_of, tau)


def _copy_all(buffers: Iterable[tuple[Tensor, Tensor]]) -> None:
    for statistic, latest in buffers:
        statistic.copy_(latest)


class WeightAverage(Generic[Network]):
    """Exponential moving average of a network's weights over its gradient steps (Polyak & Juditsky, 1992).

    average += (1 - d) * (weights - average), where d grows with the t steps taken to `decay`:
    d = min(decay, (1 + t) / (10 + t)). A decay of 0 is the network itself. Buffers (statistics) are copied.
    """

    def __init__(self, network: Network, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False) if decay else network
        self._live: list[Tensor] = list(network.parameters())
        self._average: list[Tensor] = list(self.network.parameters())
        self._statistics = list(zip(self.network.buffers(), network.buffers(), strict=True))

    def follow(self, taken: int, steps: int) -> None:
        """Take in the weights after `steps` more gradient steps than `taken`, of which it sees the last ones alone."""
        if self.decay:
            decays = (min(self.decay, (1 + t) / (10 + t)) for t in range(taken, taken + steps))
            with torch.no_grad():
                torch._foreach_lerp_(self._average, self._live, 1 - prod(decays))
            _copy_all(self._statistics)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's tensors by parameter number; hyperparameters belong to the config."""
    state = optimiser.state_dict()["state"]
    return {str(i): dict(tensors) for i, tensors in state.items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take copies of the tensors of `optimiser_state` in; torch itself would go on writing into them."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    tensors = {
        int(i): {k: _laid_out_as(parameters[int(i)], v) for k, v in part.items()} for i, part in state.items()
    }
    optimiser.load_state_dict({"state": tensors, "param_groups": groups})


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """Return a copy with a parameter's strides, which the fused update takes for granted."""
    value = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Copy weights in, in place, so that views of them stay valid."""
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})


# Numbers too small for float32's usual form -------------------------------------------------------------

SMALLEST = torch.finfo(torch.float32).tiny
SETTLING_PERIOD_STEPS = 100


def without_subnormals(moment: Tensor) -> Tensor:
    """Return a moment with 0 in place of numbers below the smallest normal one.

    Averages of the gradients of a weight that gets none any more (behind a dead unit) shrink to a few of float32's
    smallest steps, where rounding holds them for good; processors take many times as long for such numbers.
    """
    return torch.where(moment.abs() < SMALLEST, 0.0, moment)


@torch.no_grad()
def settle_moments(optimiser: torch.optim.Optimizer, number: int) -> None:
    """Every SETTLING_PERIOD_STEPS-th step `number`, rid the optimiser's moments on the CPU of subnormal numbers."""
    if number % SETTLING_PERIOD_STEPS:
        return
    for state in optimiser.state.values():
        for value in state.values():
            if isinstance(value, Tensor) and value.is_floating_point() and value.device.type == "cpu":
                value.copy_(without_subnormals(value))


# Adam as a function, for updates that are compiled whole -----------------------------------------------


def adam_moments(optimiser: torch.optim.Optimizer) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return Adam's averages, squares and step counts, one for each parameter; zeros before its first step."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for p in parameters:
        if not optimiser.state[p]:
            zeros = torch.zeros_like(p, memory_format=torch.preserve_format).detach()
            optimiser.state[p] = {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
    state = [optimiser.state[p] for p in parameters]
    return [s["exp_avg"] for s in state], [s["exp_avg_sq"] for s in state], [s["step"] for s in state]


def adam_coefficients(optimiser: torch.optim.Optimizer, taken: int, steps: int) -> Tensor:
    """Return (step size, correction of the squares' root) for each of the `steps` after `taken`: [steps, 2]."""
    group = optimiser.param_groups[0]
    beta1, beta2 = group["betas"]
    rows = [
        (group["lr"] / (1 - beta1**t), (1 - beta2**t) ** 0.5) for t in range(taken + 1, taken + steps + 1)
    ]
    return torch.tensor(rows)


def adam_step(
    weight: Tensor,
    gradient: Tensor,
    average: Tensor,
    square: Tensor,
    coefficient: Tensor,
    sound: Tensor,
    epsilon: float = ADAM_EPSILON,
) -> None:
    """Move a weight, its average and its squares in place by Adam; where not `sound`, nothing moves."""
    new_average = without_subnormals(average * ADAM_BETAS[0] + gradient * (1 - ADAM_BETAS[0]))
    new_square = without_subnormals(square * ADAM_BETAS[1] + gradient.square() * (1 - ADAM_BETAS[1]))
    moved = weight - coefficient[0] * new_average / (new_square.sqrt() / coefficient[1] + epsilon)
    weight.copy_(torch.where(sound, moved, weight))
    average.copy_(torch.where(sound, new_average, average))
    square.copy_(torch.where(sound, new_square, square))


FLOOR = 0.01 / 32**2  # the authors' 0.01 is that of gradients summed over a batch of 32; ours are averaged


class CentredRMSprop(torch.optim.Optimizer):
    """RMSprop as in Mnih et al. (2015): w -= lr * g / sqrt(mean(g^2) - mean(g)^2 + floor).

    torch's own adds its epsilon outside of the root.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float = 0.95, floor: float = FLOOR):
        super().__init__(parameters, {"lr": lr, "decay": decay, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["average"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
                average, square = state["average"], state["square"]
                average.lerp_(p.grad, 1 - group["decay"])
                square.lerp_(p.grad.square(), 1 - group["decay"])
                p.addcdiv_(p.grad, (square - average.square() + group["floor"]).sqrt(), value=-group["lr"])


# Each is called with (parameters, learning rate); penalties, decay and clipping are in regularise.py.
OPTIMISERS: dict[str, Any] = {
    "adam": adam,
    "rmsprop": CentredRMSprop,
    "rmsprop-torch": rmsprop_torch,
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adamw": adamw,
}

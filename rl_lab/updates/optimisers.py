"""Optimisers by name: thin functions over torch's, and two RMSprops that torch doesn't have (RAdam is in adam.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from rl_lab.updates.adam import ADAM_BETAS, ADAM_EPSILON, RectifiedAdam

MOMENTUM = 0.9


def sgd(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.SGD:
    """Return stochastic gradient descent (Robbins & Monro, 1951): w -= lr * g."""
    return torch.optim.SGD(parameters, lr=learning_rate)


def momentum(parameters: Iterable[Tensor], learning_rate: float, beta: float = MOMENTUM) -> torch.optim.SGD:
    """Return gradient descent with momentum (Polyak, 1964): v = beta * v + g, w -= lr * v."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=beta)


def nesterov(parameters: Iterable[Tensor], learning_rate: float, beta: float = MOMENTUM) -> torch.optim.SGD:
    """Return Nesterov's accelerated gradient (1983): v = beta * v + g, w -= lr * (g + beta * v).

    Written as in Sutskever et al. (2013), "On the importance of initialization and momentum in deep learning".
    """
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=beta, nesterov=True)


def adagrad(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adagrad:
    """Return AdaGrad (Duchi et al., 2011): s += g^2, w -= lr * g / (sqrt(s) + 1e-10)."""
    return torch.optim.Adagrad(parameters, lr=learning_rate)


def rmsprop_torch(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.RMSprop:
    """Return RMSprop (Tieleman & Hinton, 2012) as in torch: s = 0.99 s + 0.01 g^2, w -= lr * g / (sqrt(s) + 1e-8)."""
    return torch.optim.RMSprop(parameters, lr=learning_rate)


def adamw(
    parameters: Iterable[Tensor],
    learning_rate: float,
    epsilon: float = ADAM_EPSILON,
    weight_decay: float = 0.01,
) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay (Loshchilov & Hutter, 2019): w *= 1 - lr * decay before each step."""
    return torch.optim.AdamW(
        parameters, learning_rate, ADAM_BETAS, epsilon, weight_decay=weight_decay, fused=True
    )


def adam(
    parameters: Iterable[Tensor], learning_rate: float, epsilon: float = ADAM_EPSILON
) -> torch.optim.Adam:
    """Return Adam (Kingma & Ba, 2015) with torch's fused update."""
    return torch.optim.Adam(parameters, learning_rate, ADAM_BETAS, epsilon, fused=True)


FLOOR = 0.01 / 32**2  # the authors' 0.01 is for gradients summed over a batch of 32; ours are averaged


class CentredRMSprop(torch.optim.Optimizer):
    """RMSprop as in Mnih et al. (2015): w -= lr * g / sqrt(mean(g^2) - mean(g)^2 + floor).

    torch's RMSprop adds its epsilon outside the root.
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


ADAMS = ("adam", "adamw", "radam")  # take an epsilon

# Each is called with (parameters, learning rate). Penalties and decay are added by regularise.py.
OPTIMISERS: dict[str, Any] = {
    "adam": adam,
    "rmsprop": CentredRMSprop,
    "rmsprop-torch": rmsprop_torch,
    "sgd": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "adamw": adamw,
    "radam": RectifiedAdam,
}


# Policy gradients ---------------------------------------------------------------------------------------

POLICY_ADAM_EPSILON = 1e-5  # as in the authors' code (OpenAI Baselines) and in SB3


def policy_adam(
    parameters: Iterable[Tensor], learning_rate: float, epsilon: float = POLICY_ADAM_EPSILON
) -> torch.optim.Adam:
    """Return Adam with the epsilon that is usual for policy gradients."""
    return adam(parameters, learning_rate, epsilon)


class PolicyRMSprop(torch.optim.Optimizer):
    """RMSprop as in Mnih et al. (2016): w -= lr * g / sqrt(mean(g^2) + floor), with a mean that starts at 1.

    torch's RMSprop adds its epsilon outside the root and starts the mean at 0, which makes A2C unstable.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, decay: float = 0.99, floor: float = 1e-5):
        super().__init__(parameters, {"lr": lr, "decay": decay, "floor": floor})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["square"] = torch.ones_like(p)
            gradients = [p.grad for p in parameters]
            squares = [self.state[p]["square"] for p in parameters]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["floor"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(parameters, gradients, roots, -group["lr"])


def rmsprop_outside(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.RMSprop:
    """Return torch's RMSprop with the constants of SB3's A2C: the mean starts at 0, epsilon is outside the root."""
    return torch.optim.RMSprop(parameters, learning_rate, alpha=0.99, eps=1e-5)


# The optimisers of policy gradients by name; three of them have other constants there.
POLICY_OPTIMISERS: dict[str, Any] = {
    **OPTIMISERS,
    "adam": policy_adam,
    "rmsprop": PolicyRMSprop,
    "rmsprop-torch": rmsprop_outside,
}

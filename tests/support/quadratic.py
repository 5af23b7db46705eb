"""A quadratic on which optimisers are followed step by step."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

CURVATURE = np.array([0.5, 1.0, 4.0])  # f(w) = sum(CURVATURE * w^2) / 2
START = np.array([3.0, -2.0, 0.5])
RATE, STEPS = 0.05, 30


def gradient(w):
    return CURVATURE * w


def followed(make, step=lambda: None, steps=STEPS, loss=None):
    """The weights [steps, 3] that an optimiser visits on the quadratic."""
    w = nn.Parameter(torch.tensor(START))
    optimiser, path = make([w]), []
    for _ in range(steps):
        optimiser.zero_grad()
        value = (torch.tensor(CURVATURE) * w.square()).sum() / 2
        (value if loss is None else value + loss([w])).backward()
        optimiser.step()
        path.append(w.detach().numpy().copy())
    return np.stack(path)


def expected(step, steps=STEPS):
    w, memory, path = START, {}, []
    for t in range(1, steps + 1):
        w = step(w, memory, t)
        path.append(w)
    return np.stack(path)

"""How torch and numpy compute on this machine, as hashes: the last bits differ between processors."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn


def arithmetic_sha256() -> str:
    """Return one hash over what some small networks learn in a few steps."""
    digest = hashlib.sha256()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())
        for network in (mlp, nn.LSTM(6, 4), nn.GRU(6, 4)):
            optimiser = torch.optim.Adam(network.parameters(), 0.01)
            for batch in (1, 2, 4, 16) * 5:
                shape = (batch, 4) if network is mlp else (6, batch, 6)
                out = network(torch.randn(shape))
                loss = (out if network is mlp else out[0]).exp().square().mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimiser.step()
            for parameter in network.parameters():
                digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


def products_sha256() -> str:
    """Return one hash over matrix products of numpy's, whose order of adding depends on the kernels of its BLAS."""
    digest, rng = hashlib.sha256(), np.random.default_rng(0)
    for rows, inner, columns in ((1, 4, 8), (2, 8, 3), (4, 16, 16), (16, 33, 7), (64, 64, 2)):
        for dtype in (np.float32, np.float64):
            left, right = rng.normal(size=(rows, inner)), rng.normal(size=(inner, columns))
            digest.update((left.astype(dtype) @ right.astype(dtype)).tobytes())
    return digest.hexdigest()

"""What the losses of distributions compute, one number after another, as the papers have it."""

from __future__ import annotations

import math

import numpy as np


def bellman_projected(atoms, weights, v_min, v_max, count):
    """Algorithm 1 of Bellemare et al. (2017), from atoms that are already those of the target."""
    spacing, m = (v_max - v_min) / (count - 1), np.zeros(count)
    for z, p in zip(atoms, weights, strict=True):
        b = (min(max(z, v_min), v_max) - v_min) / spacing
        low, high = math.floor(b + 1e-9), math.ceil(b - 1e-9)
        if low == high:
            m[low] += p
        else:
            m[low] += p * (high - b)
            m[high] += p * (b - low)
    return m


def quantile_huber(quantiles, fractions, atoms):
    total = 0.0
    for theta, tau in zip(quantiles, fractions, strict=True):
        for z in atoms:
            u = z - theta
            size = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
            total += abs(tau - (u < 0)) * size / len(atoms)
    return total


def greedy_action(q, mask):
    legal = [a for a in range(len(q)) if mask is None or mask[a]]
    return max(legal, key=lambda a: (q[a], -a))

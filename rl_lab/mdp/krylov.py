"""Speeds up the evaluation of a policy where sweeps alone would contract too slowly: a discount close to 1.

A correction d of the values solves d = residual + gamma P d. GMRES finds it in few products with P where all but some
of the eigenvalues of gamma P are small, whereas each sweep shrinks the error by the largest one.
Source: Saad and Schultz, "GMRES", SIAM Journal on Scientific and Statistical Computing, 1986
(https://doi.org/10.1137/0907058).
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import linalg
from threadpoolctl import threadpool_limits

from rl_lab.mdp.sweeps import Chain
from rl_lab.types import Array


def correct(chain: Chain, values: Array, fraction: float, most: int) -> tuple[Array, int, bool]:
    """Improve values [S] of a chain until a sweep changes them by about `fraction` of what it does now.

    Args:
        most: how many products with the chain's matrix are allowed, up to three more, at least 1.

    Returns:
        Values [S], how many products and sweeps they took, and whether a sweep changes them by half as much as before
        or less. If it doesn't, the values are those of one sweep.
    """
    swept, change = chain.sweep(values)
    products = 0

    def multiply(vector: Array) -> Array:
        nonlocal products
        products += 1
        return vector - chain.spread(np.ascontiguousarray(vector))

    size = len(values)
    system = linalg.LinearOperator((size, size), matvec=multiply, dtype=np.float64)
    steps = min(most, size)
    # One thread: products of two vectors would wait for others longer than they take.
    with threadpool_limits(1, "blas"):
        found, _ = linalg.gmres(system, swept - values, rtol=fraction, atol=0.0, restart=steps, maxiter=1)
    if not np.isfinite(found).all():
        return swept, products + 1, False
    corrected, smaller = chain.sweep(values + found)
    worked = smaller.size <= change.size / 2
    return (corrected if worked else swept), products + 2, worked

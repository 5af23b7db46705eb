"""Loops over the rows of a finite MDP, written so that numba can compile them.

They are plain Python and run as such on small models; `compile_all` makes machine code of them for
large ones. None of them holds the interpreter's lock once compiled, so threads share a sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from heapq import heappop, heappush
from types import SimpleNamespace
from typing import Any

# mypy: disable-error-code="no-untyped-def"


def back_up_row(row, values, reward, indptr, indices, data, gamma):
    """Return the action value of one row."""
    total = 0.0
    for k in range(indptr[row], indptr[row + 1]):
        total += data[k] * values[indices[k]]
    return reward[row] + gamma * total


def improve(start, stop, first, reward, indptr, indices, data, gamma, values, new_values, chosen):
    """Write the best value and the first best row of states `start:stop`; return (least, largest) change."""
    low, high = 1e308, -1e308
    for s in range(start, stop):
        best, pick = back_up_row(first[s], values, reward, indptr, indices, data, gamma), first[s]
        for row in range(first[s] + 1, first[s + 1]):
            q = back_up_row(row, values, reward, indptr, indices, data, gamma)
            pick = row if q > best else pick  # without branches, which can't be foreseen here
            best = max(best, q)
        new_values[s], chosen[s] = best, pick
        low, high = min(low, best - values[s]), max(high, best - values[s])
    return low, high


def follow(start, stop, reward, indptr, indices, data, gamma, values, new_values):
    """Write the value of states `start:stop`, one row each; return (least, largest) change."""
    low, high = 1e308, -1e308
    for s in range(start, stop):
        value = back_up_row(s, values, reward, indptr, indices, data, gamma)
        new_values[s] = value
        low, high = min(low, value - values[s]), max(high, value - values[s])
    return low, high


def gather(start, stop, chosen, indptr, indices, data, new_indptr, new_indices, new_data):
    """Copy the chosen rows of states `start:stop` into a chain of their own."""
    for s in range(start, stop):
        source, target = indptr[chosen[s]], new_indptr[s]
        for k in range(new_indptr[s + 1] - target):
            new_indices[target + k] = indices[source + k]
            new_data[target + k] = data[source + k]


def gauss_seidel(first, reward, indptr, indices, data, gamma, values):
    """Back all states up in place, in order; return (least, largest) change."""
    low, high = 1e308, -1e308
    for s in range(len(values)):
        best = back_up_row(first[s], values, reward, indptr, indices, data, gamma)
        for row in range(first[s] + 1, first[s + 1]):
            best = max(best, back_up_row(row, values, reward, indptr, indices, data, gamma))
        low, high = min(low, best - values[s]), max(high, best - values[s])
        values[s] = best
    return low, high


def prioritise(
    first,
    owner,
    reward,
    indptr,
    indices,
    data,
    gamma,
    into,
    sources,
    weights,
    values,
    priority,
    threshold,
    budget,
):
    """Back up to `budget` states in place, the one with the largest priority first; return how many.

    A state's priority [S] bounds its Bellman error from above: what a change of size c at a
    successor adds to it is at most gamma * probability * c. Entries `into[s]:into[s + 1]` of
    `sources` (rows) and `weights` (probabilities) lead into state s.
    """
    heap = [(-priority[s], s) for s in range(len(values))]  # its first entry gives numba the type
    heap.sort()
    updates = 0
    while len(heap) > 0 and updates < budget:
        negative, s = heappop(heap)
        if -negative <= threshold:
            break
        if -negative != priority[s]:  # an entry from before a later change
            continue
        best = back_up_row(first[s], values, reward, indptr, indices, data, gamma)
        for row in range(first[s] + 1, first[s + 1]):
            best = max(best, back_up_row(row, values, reward, indptr, indices, data, gamma))
        change = abs(best - values[s])
        values[s], priority[s] = best, 0.0
        updates += 1
        for k in range(into[s], into[s + 1]):
            p = owner[sources[k]]
            priority[p] += gamma * weights[k] * change
            if priority[p] > threshold:
                heappush(heap, (-priority[p], p))
    return updates


@lru_cache(maxsize=1)
def compile_all() -> SimpleNamespace:
    """Return all kernels of this file as machine code."""
    from numba.extending import register_jitable  # 0.3 s that only large models pay

    register_jitable(back_up_row)
    kernels = (improve, follow, gather, gauss_seidel, prioritise)
    return SimpleNamespace(**{kernel.__name__: compile_kernel(kernel) for kernel in kernels})


def compile_kernel(kernel: Callable) -> Any:
    """Return a kernel as machine code, kept on disk where a folder can be written."""
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError as error:  # no folder in which a cache could be kept
        warnings.warn(f"{kernel.__name__} is compiled anew by each process: {error}", stacklevel=2)
        return numba.njit(nogil=True)(kernel)

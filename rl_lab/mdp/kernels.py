"""Loops over the rows of a finite MDP, written so that numba can compile them.

Small models run them as plain Python, large ones as machine code (`compile_all`). Compiled loops release
the interpreter's lock, so that threads can share a sweep.

All of them take the model as `first` int [S + 1] (the first row of each state), `reward` float64 [R] and
the matrix `indptr` [R + 1], `indices` [K], `data` [K] of continuation probabilities.
"""

from __future__ import annotations

from functools import lru_cache
from heapq import heappop, heappush
from types import SimpleNamespace

from rl_lab.jit import compile_kernels

# mypy: disable-error-code="no-untyped-def"


def back_up_row(row, values, reward, indptr, indices, data, gamma):
    """Return the action value of one row, given state values [S]."""
    total = 0.0
    for k in range(indptr[row], indptr[row + 1]):
        total += data[k] * values[indices[k]]
    return reward[row] + gamma * total


def improve(start, stop, first, reward, indptr, indices, data, gamma, values, new_values, chosen):
    """Write the best value and the first best row of states `start:stop`; return (smallest, largest) change."""
    low, high = 1e308, -1e308
    for s in range(start, stop):
        best, pick = back_up_row(first[s], values, reward, indptr, indices, data, gamma), first[s]
        for row in range(first[s] + 1, first[s + 1]):
            q = back_up_row(row, values, reward, indptr, indices, data, gamma)
            pick = row if q > best else pick  # without a branch, which the processor couldn't predict
            best = max(best, q)
        new_values[s], chosen[s] = best, pick
        low, high = min(low, best - values[s]), max(high, best - values[s])
    return low, high


def follow(start, stop, reward, indptr, indices, data, gamma, values, new_values):
    """Write the value of states `start:stop`, which have one row each; return (smallest, largest) change."""
    low, high = 1e308, -1e308
    for s in range(start, stop):
        value = back_up_row(s, values, reward, indptr, indices, data, gamma)
        new_values[s] = value
        low, high = min(low, value - values[s]), max(high, value - values[s])
    return low, high


def gather(start, stop, chosen, indptr, indices, data, new_indptr, new_indices, new_data):
    """Copy the chosen rows [S] of states `start:stop` into a matrix of their own."""
    for s in range(start, stop):
        source, target = indptr[chosen[s]], new_indptr[s]
        for k in range(new_indptr[s + 1] - target):
            new_indices[target + k] = indices[source + k]
            new_data[target + k] = data[source + k]


def gauss_seidel(first, reward, indptr, indices, data, gamma, values):
    """Back up all states in place, in order; return (smallest, largest) change."""
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
    """Back up at most `budget` states in place, always the one with the largest priority; return how many.

    A state's priority [S] is an upper bound on its Bellman error: a change of size c at a successor adds at
    most gamma * probability * c. Entries `into[s]:into[s + 1]` of `sources` (rows) and `weights`
    (probabilities) lead into state s.
    """
    heap = [(-priority[s], s) for s in range(len(values))]  # its first entry gives numba the type
    heap.sort()
    updates = 0
    while len(heap) > 0 and updates < budget:
        negative, s = heappop(heap)
        if -negative <= threshold:
            break
        if -negative != priority[s]:  # outdated: the priority has changed since
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
    from numba.extending import register_jitable  # takes 0.3 s, which only large models pay

    register_jitable(back_up_row)
    return compile_kernels(improve, follow, gather, gauss_seidel, prioritise)

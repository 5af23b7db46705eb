"""Tables from which a compiled simulation draws what follows an action, each draw in constant time.

An outcome is drawn by Walker's alias method: a column of the row is chosen uniformly, and either its own outcome or its
alias is taken. Walker (1977), https://doi.org/10.1145/355744.355749; built as by Vose (1991),
https://doi.org/10.1109/32.92917.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rl_lab.jit import compile_kernel
from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"


class OutcomeTables(NamedTuple):
    """What a simulation needs of a model, in arrays that a compiled loop takes.

    Row `state * num_actions + action` holds the columns `first[row]:first[row] + width[row]`; an illegal action has
    none. After them comes one row more: the states in which episodes begin.
    """

    first: Array  # uint32 [S * A + 1]
    width: Array  # float64 [S * A + 1]: how many columns
    share: Array  # float64 [K]: probability of a column's own outcome
    alias: Array  # uint32 [K]: the column whose outcome is taken otherwise
    successor: Array  # uint32 [K]
    reward: Array  # float64 [K]; 0 for a beginning
    ends: Array  # bool [K]: the episode terminates


COMPILED_FROM = 50_000  # columns: compiling takes seconds


def draw_outcome(first, width, share, alias, row, number):
    """Return the column of a row's outcome that a number in [0, 1) chooses."""
    place = number * width[row]
    column = np.uint32(place)
    outcome = first[row] + column
    return alias[outcome] if place - column >= share[outcome] else outcome


def fill_aliases(first, width, probability, share, alias):
    """Write the shares and aliases [K] of all rows whose probabilities are given, [K]."""
    for row in range(len(first)):
        start, size = int(first[row]), int(width[row])
        total = 0.0
        for k in range(start, start + size):
            total += probability[k]
        small, large = np.empty(size, np.int64), np.empty(size, np.int64)
        smalls = larges = 0
        for k in range(start, start + size):
            share[k], alias[k] = probability[k] * size / total, k
            if share[k] < 1.0:
                small[smalls] = k
                smalls += 1
            else:
                large[larges] = k
                larges += 1
        while smalls > 0 and larges > 0:
            low, high = small[smalls - 1], large[larges - 1]
            alias[low] = high
            share[high] -= 1.0 - share[low]
            smalls -= 1
            if share[high] < 1.0:
                small[smalls] = high
                smalls, larges = smalls + 1, larges - 1
        for place in range(smalls):  # left over by rounding alone
            share[small[place]] = 1.0
        for place in range(larges):
            share[large[place]] = 1.0


@lru_cache(maxsize=1)
def _compiled() -> Any:
    return compile_kernel(fill_aliases)


@lru_cache(maxsize=16)
def outcome_tables(model: TabularModel) -> OutcomeTables:
    """Return the tables of a model; outcomes of probability 0 and of illegal actions are left out.

    Raises:
        ValueError: the model is too large for indices of 32 bits.
    """
    legal = model.available.ravel()
    kept = (model.probability > 0.0) & legal[model.row]
    starts = np.flatnonzero(model.initial > 0.0)
    if (size := int(kept.sum()) + len(starts)) >= 2**32:
        raise ValueError(f"a model of {size} outcomes is too large to be simulated (allowed: below 2**32)")
    counts = np.append(np.bincount(model.row[kept], minlength=len(legal)), len(starts))
    first = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.uint32)
    share, alias = np.empty(size), np.empty(size, np.uint32)
    probability = np.append(model.probability[kept], model.initial[starts])
    fill = _compiled() if size >= COMPILED_FROM else fill_aliases
    fill(first, counts.astype(np.float64), probability, share, alias)
    nothing = np.zeros(len(starts))
    return OutcomeTables(
        first=first,
        width=counts.astype(np.float64),
        share=share,
        alias=alias,
        successor=np.append(model.successor[kept], starts).astype(np.uint32),
        reward=np.append(model.reward[kept], nothing),
        ends=np.append(model.terminated[kept], nothing.astype(bool)),
    )

"""Whether some policy earns without end at gamma = 1, so that the optimum is plus infinity and no method ends.

A policy that stays for ever in an end component (states that reach one another, and rows that don't leave them;
de Alfaro, "Formal Verification of Probabilistic Systems", 1997) earns without end there if its average reward is
above 0. Policy iteration finds such a policy: started from one that ends, it arrives at policies that end as long
as there is none.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from rl_lab.mdp.methods import improve_policy
from rl_lab.mdp.rows import NeverEnds, Rows, back_up, take_best
from rl_lab.mdp.sweeps import is_large
from rl_lab.mdp.undiscounted import end_components
from rl_lab.types import Array

SWEEPS = 2_000  # of a component too large for policy iteration; if they decide nothing, the method has to


def require_bounded(rows: Rows, label: Array) -> None:
    """Check that no policy earns without end.

    Args:
        rows: the rows of a merged problem, from all of whose states some policy ends.
        label: its state for each state of the model, int64 [S].

    Raises:
        NeverEnds: some policy does; the message names a state where it can stay.
    """
    inside, component = end_components(rows, rows.termination == 0)
    earning = np.unique(component[rows.owner[inside & (rows.reward > 0)]])
    for one in earning:
        members = np.flatnonzero(component == one)
        kept = np.flatnonzero(inside & (component[rows.owner] == one))
        if _earns(_part_of(rows, members, kept)):
            state = int(np.argmax(np.isin(label, members)))
            raise NeverEnds(
                f"gamma = 1: from state {state} a policy earns without end, and the optimum is infinite;"
                " take gamma below 1"
            )


def _part_of(rows: Rows, members: Array, kept: Array) -> Rows:
    """Return the kept rows (int64) of a component's states (int64 [M]), each state with a row that ends at 0 added."""
    size = len(members)
    owner = np.concatenate((np.arange(size), np.searchsorted(members, rows.owner[kept])))
    order = np.argsort(owner, kind="stable")  # the added row comes first
    matrix = sparse.vstack(
        (sparse.csr_matrix((size, size)), rows.continuation[kept][:, members]), format="csr"
    )
    return Rows(
        first=np.searchsorted(owner[order], np.arange(size)),
        owner=owner[order],
        reward=np.concatenate((np.zeros(size), rows.reward[kept]))[order],
        termination=np.concatenate((np.ones(size), np.zeros(len(kept))))[order],
        continuation=sparse.csr_matrix(matrix[order]),
        origin=np.full(len(owner), -1),
    )


def _earns(part: Rows) -> bool:
    """Return whether some policy that stays in a component earns without end."""
    if is_large(part):
        return _gains_everywhere(part)
    try:
        improve_policy(part, 1.0, part.first)
    except NeverEnds:
        return True
    return False


def _gains_everywhere(part: Rows) -> bool:
    """Return whether values of a large component are seen to rise by more than rounding in every state at once.

    Then the best average reward is above 0 (Puterman, theorem 8.5.5). Half of each step stays where it is, so that
    no cycle hides the rise.
    """
    values = np.zeros(len(part.first))
    for _ in range(SWEEPS):
        rise = take_best(part, back_up(part, values, 1.0)) - values
        if rise.min() > 1e-9 * max(1.0, float(np.abs(values).max())):
            return True
        if rise.max() <= 0:
            return False
        values += rise / 2
    return False

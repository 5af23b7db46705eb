"""Whether some policy earns without end at gamma = 1, so that the optimum is plus infinity and no method ends.

A policy that stays for ever in an end component (states that reach one another, and rows that don't leave them;
de Alfaro, "Formal Verification of Probabilistic Systems", 1997) earns without end there if its average reward is
above 0. The states of a component communicate, so that its best average reward is one number: sweeps enclose it
(Puterman, "Markov Decision Processes", 1994, theorem 8.5.5), and policy iteration finds it (section 9.5). Refused is
only what is above 0 by more than rounding.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from rl_lab.mdp.average_methods import join_classes
from rl_lab.mdp.differential import Chain
from rl_lab.mdp.methods import TIE_TOLERANCE, scale
from rl_lab.mdp.recurring import Process, lead_to, normalise
from rl_lab.mdp.rows import NeverEnds, Rows, back_up, bound_rounding, pick_first, take_best
from rl_lab.mdp.sweeps import is_large
from rl_lab.mdp.undiscounted import end_components
from rl_lab.types import Array

SWEEPS = 1_000  # of a large component, before its policies' equations are solved
ROUNDS = 1_000  # of policy iteration, which takes few
NEARLY = 1e-9  # relative to the values: below such a rise, sweeps ask whether it is more than rounding


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
    """Return the kept rows (int64) of a component's states (int64 [M]), which never leave it."""
    owner = np.searchsorted(members, rows.owner[kept])
    return Rows(
        first=np.searchsorted(owner, np.arange(len(members))),
        owner=owner,
        reward=rows.reward[kept],
        termination=np.zeros(len(kept)),
        continuation=normalise(sparse.csr_matrix(rows.continuation[kept][:, members])),
        origin=rows.origin[kept],
    )


def _earns(part: Rows) -> bool:
    """Return whether some policy's average reward in a component is above 0."""
    seen = _seen_by_sweeps(part) if is_large(part) else None
    return _seen_by_policies(part) if seen is None else seen


def _seen_by_sweeps(part: Rows) -> bool | None:
    """Return whether a component's best average reward is above 0, as sweeps enclose it; None: they don't tell.

    It lies between the smallest and the largest rise of a state's value. Half of each step stays where it is, so that
    no cycle hides it.
    """
    values = np.zeros(len(part.first))
    for _ in range(SWEEPS):
        rise = take_best(part, back_up(part, values, 1.0)) - values
        low, high = float(rise.min()), float(rise.max())
        if low > 0.0 or high < NEARLY * scale(values):
            rounding = bound_rounding(part, values, 1.0)
            if low > rounding or high <= rounding:
                return low > rounding
        values += rise / 2
        values -= values[0]
    return None


def _seen_by_policies(part: Rows) -> bool:
    """Return whether a component's best average reward is above 0, by policy iteration with direct solves.

    It begins with the policy that goes where the largest reward is.
    """
    process = Process(part, np.ones(len(part.owner)), np.arange(len(part.first)))
    richest = int(part.reward.argmax())
    target = np.arange(len(part.first)) == part.owner[richest]
    chosen = lead_to(part, np.where(target, richest, part.first), target)
    for _ in range(ROUNDS):
        chain, reward = Chain(part.continuation[chosen], process.steps[chosen]), part.reward[chosen]
        gain, bias = chain.solve(reward)
        if gain > chain.residual(reward, gain, bias):
            return True
        action_values = back_up(part, bias, 1.0)
        best = take_best(part, action_values)
        better = best > action_values[chosen] + TIE_TOLERANCE * scale(bias)
        if not better.any() or float((best - bias).max()) + bound_rounding(part, bias, 1.0) <= 0.0:
            return False
        improved = np.where(better, pick_first(part, action_values >= best[part.owner]), chosen)
        chosen = join_classes(process, improved)
    return False

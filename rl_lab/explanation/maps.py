"""Value and policy of every cell of a grid, as numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.layout import Layout
from rl_lab.evaluation.exact import action_probabilities, predicted_values
from rl_lab.explanation.optimum import Optimum

WIDTH = 64  # observations per call of the policy
TIED = 1e-6  # actions whose probabilities differ by less are all shown


@dataclass(frozen=True)
class Cell:
    """One state of a grid."""

    row: int
    column: int
    state: int
    kind: str
    """`S` start, `G` goal, `P` pit or cliff, `#` wall, `.` anything else; "" if the environment doesn't say."""
    acting: bool
    """Whether an action is taken there."""
    value: float | None
    """What the policy predicts there; None if it doesn't, or where no action is taken."""
    probabilities: list[float]
    """Of its actions."""
    actions: list[int]
    """The most likely ones."""
    optimal_value: float
    """Exact V*, at the discount of the optimum."""
    loses: bool
    """Whether one of its actions isn't optimal."""


@dataclass(frozen=True)
class GridNumbers:
    """A map of a policy on a grid."""

    height: int
    width: int
    cells: list[Cell]
    moves: list[list[float]] | None
    """(rows, columns) by which each action moves, where that doesn't depend on the state; None if unknown."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def grid_numbers(policy: Policy, layout: Layout | None, optimum: Optimum) -> GridNumbers | str:
    """Return a policy's value and actions in every cell, or in a line why there is no map.

    Args:
        layout: of the environment, from `rl_lab.environments.layout.layout_of`.
        optimum: from `optimum_of`.
    """
    if layout is None:
        return "the states of the environment don't lie on a grid"
    if optimum.model is None or optimum.solution is None:
        return optimum.reason
    model, solution = optimum.model, optimum.solution
    chances = action_probabilities(policy, model, WIDTH)
    if chances is None:
        return "the policy has a memory, so that its actions depend on more than the cell"
    from rl_lab.evaluation.grid_maps import kinds_of

    live = ~((model.termination == 1.0) & (model.expected_reward == 0.0)).all(axis=1)
    acting = kinds_of(model, layout, live).acting
    values = predicted_values(policy, model, WIDTH)
    likeliest = chances >= chances.max(axis=1, keepdims=True) - TIED
    loses = acting & ((chances > 0.0) & ~solution.optimal_actions).any(axis=1)
    letters = np.full(model.num_states, "") if layout.letters is None else layout.letters
    cells = [
        Cell(
            int(row),
            int(column),
            state,
            str(letters[state]),
            bool(acting[state]),
            float(values[state]) if values is not None and acting[state] else None,
            chances[state].tolist(),
            np.flatnonzero(likeliest[state]).tolist(),
            float(solution.v[state]),
            bool(loses[state]),
        )
        for state, (row, column) in enumerate(layout.cells)
    ]
    height, width = (int(n) for n in layout.cells.max(axis=0) + 1)
    fixed = layout.moves is not None and layout.moves.ndim == 2
    return GridNumbers(height, width, cells, layout.moves.tolist() if fixed else None)  # type: ignore[union-attr]

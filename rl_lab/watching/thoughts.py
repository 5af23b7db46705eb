"""The figures behind each step, and the map of a grid, for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lab.agent import Policy
from rl_lab.environments.ending import ending
from rl_lab.environments.layout import DrawnGrid, Layout, drawn_grid_of, layout_of
from rl_lab.explanation.insight import Facts, facts_of, insight
from rl_lab.explanation.maps import grid_numbers
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.human import HumanPolicy
from rl_lab.watching.sources import Watched

CONSTANT = ("action_names",)  # told once, not with each step


@dataclass(frozen=True)
class Thoughts:
    """Explains the steps of one agent."""

    facts: Facts
    layout: Layout | None = None
    drawn: DrawnGrid | None = None  # where the grid of the layout lies in the picture

    def __call__(
        self,
        policy: Policy,
        obs: Obs,
        state: State,
        is_first: Array,
        mask: Array | None,
        decision: Decision | None,
    ) -> Mapping[str, Any]:
        """Return the figures behind a decision as plain JSON; nobody knows those behind a person's."""
        decision = None if isinstance(policy, HumanPolicy) else decision
        figures = insight(policy, obs, state, is_first, mask, decision, self.facts).as_dict()
        return {name: value for name, value in figures.items() if name not in CONSTANT}

    def grid(self, policy: Policy) -> Mapping[str, Any] | None:
        """Return a policy's value and actions in each cell of a grid, for the page; None where there is no grid.

        Returns:
            `values` [rows][columns], None where no action is taken, `arrows` [rows][columns], each a list of (right,
            down), and `area`, see `DrawnGrid`.
        """
        numbers = grid_numbers(policy, self.layout, self.facts.optimum)
        if isinstance(numbers, str) or self.layout is None or self.drawn is None:
            return None
        rows, columns = self.drawn.rows, self.drawn.columns
        values: list[list[float | None]] = [[None] * columns for _ in range(rows)]
        arrows: list[list[list[Any]]] = [[[] for _ in range(columns)] for _ in range(rows)]
        moves = self.layout.moves_of(len(numbers.cells[0].probabilities)).tolist()
        for cell in numbers.cells:
            if cell.acting:
                values[cell.row][cell.column] = cell.value
                aims = [moves[cell.state][a] for a in cell.actions]
                arrows[cell.row][cell.column] = [
                    (right, down) for down, right in aims if not math.isnan(down + right)
                ]
        told = any(v is not None for row in values for v in row)
        return {"values": values, "arrows": arrows, "area": self.drawn.area} if told else None


def thoughts_of(one: Watched) -> Thoughts:
    """Return what explains the steps of an agent; where the environment has a model, it is solved for this."""
    with ending(one.make()) as env:
        layout = layout_of(env)
        drawn = None if layout is None else drawn_grid_of(env, layout)
        return Thoughts(facts_of(env, one.config.eval_gamma), layout, drawn)

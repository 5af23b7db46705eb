"""The figures behind each step, and the map of a grid, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lab.agent import Policy
from rl_lab.environments.layout import Layout, layout_of
from rl_lab.explanation.insight import Facts, facts_of, insight
from rl_lab.explanation.maps import grid_numbers
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.sources import Watched

CONSTANT = ("action_names",)  # told once, not with each step


@dataclass(frozen=True)
class Thoughts:
    """Explains the steps of one agent."""

    facts: Facts
    layout: Layout | None = None

    def __call__(
        self,
        policy: Policy,
        obs: Obs,
        state: State,
        is_first: Array,
        mask: Array | None,
        decision: Decision | None,
    ) -> Mapping[str, Any]:
        """Return the figures behind a decision as plain JSON."""
        figures = insight(policy, obs, state, is_first, mask, decision, self.facts).as_dict()
        return {name: value for name, value in figures.items() if name not in CONSTANT}

    def grid(self, policy: Policy) -> Mapping[str, Any] | None:
        """Return a policy's value and actions in each cell of a grid, for the page; None where there is no grid.

        Returns:
            `values` [rows][columns], None where no action is taken, and `arrows` [rows][columns], each a list of
            (right, down).
        """
        numbers = grid_numbers(policy, self.layout, self.facts.optimum)
        if isinstance(numbers, str):
            return None
        values: list[list[float | None]] = [[None] * numbers.width for _ in range(numbers.height)]
        arrows: list[list[list[Any]]] = [[[] for _ in range(numbers.width)] for _ in range(numbers.height)]
        for cell in numbers.cells:
            if cell.acting:
                values[cell.row][cell.column] = cell.value
                moves = [numbers.moves[a] for a in cell.actions] if numbers.moves is not None else []
                arrows[cell.row][cell.column] = [(right, down) for down, right in moves]
        return (
            {"values": values, "arrows": arrows}
            if any(v is not None for row in values for v in row)
            else None
        )


def thoughts_of(one: Watched) -> Thoughts:
    """Return what explains the steps of an agent; where the environment has a model, it is solved for this."""
    env = one.make()
    try:
        return Thoughts(facts_of(env, one.config.eval_gamma), layout_of(env))
    finally:
        env.close()

"""The figures behind each step, and the map of a grid, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lab.agent import Policy
from rl_lab.explanation.insight import Facts, facts_of, insight
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.sources import Watched

CONSTANT = ("action_names",)  # told once, not with each step


@dataclass(frozen=True)
class Thoughts:
    """Explains the steps of one agent."""

    facts: Facts

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


def thoughts_of(one: Watched) -> Thoughts:
    """Return what explains the steps of an agent; where the environment has a model, it is solved for this."""
    env = one.make()
    try:
        return Thoughts(facts_of(env, one.config.eval_gamma))
    finally:
        env.close()

"""The protocol that the registry holds: a Learner turns a problem into a policy."""

from __future__ import annotations

from typing import Any, Protocol

from rl_lab.agent import Policy
from rl_lab.problem import Problem
from rl_lab.runs.run import Run


class Learner(Protocol):
    """What the registry holds. An entry point names a factory: `factory(**fields) -> Learner`.

    Two attributes may be there beside these, and count as False otherwise: `takes_datasets` (it can learn from
    recorded steps) and `stops_early` (it calls `Run.moment` while it learns, and finishes when that says to stop).
    """

    Config: type  # the dataclass whose fields a command line offers
    config: Any  # an instance of it
    resumes: bool  # whether a stopped run goes on exactly where it was

    def refuse(self, problem: Problem) -> str | None:
        """Return one line that says why this problem can't be learned; None if it can."""

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Learn, push rows and episodes into `run`, and return the final greedy policy."""

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy that these weights make, without replay or optimiser."""

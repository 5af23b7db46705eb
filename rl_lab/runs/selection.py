"""Which policy a run ends with: the last, or the best that its evaluations found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from rl_lab.trees import map_leaves

SCORE = "selection_return_mean"  # the column of a row that policies are chosen by

Which = Literal["last", "best"]


@dataclass(frozen=True)
class Candidate:
    """The weights of a policy that was evaluated."""

    score: float  # mean return of its selection episodes
    env_steps: int
    weights: Any  # a state tree: a copy, which training leaves alone


class Selection:
    """Keeps the weights of the best policy so far, by the mean return of episodes that are used for nothing else.

    Choosing by the episodes that are reported would report the luckiest policy, not the best.

    Args:
        which: "best", or "last", with which nothing is kept.
    """

    def __init__(self, which: Which):
        self._wanted = which == "best"
        self._best: Candidate | None = None

    def offer(self, env_steps: int, figures: dict[str, Any] | None, weights: Callable[[], Any]) -> None:
        """Keep the weights of an evaluated policy if none before was better; of equal ones the newest is kept.

        Args:
            figures: of its evaluation; None if it was cut short.
            weights: returns the weights; called only if they are kept.
        """
        if self._wanted and figures is not None and self._is_best(figures[SCORE]):
            self._best = Candidate(figures[SCORE], env_steps, _copied(weights()))

    def _is_best(self, score: float) -> bool:
        return self._best is None or not score < self._best.score

    def better_than(self, figures: dict[str, Any]) -> Candidate | None:
        """Return the policy to end with instead of one with these figures; None if none was better."""
        best = self._best
        return best if best is not None and best.score > figures[SCORE] else None

    def told(self, env_steps: int) -> dict[str, int]:
        """Return as a column of a row how old the policy is that the run ends with; {} if it is always the last."""
        return {"selected_env_steps": env_steps} if self._wanted else {}

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, as a state tree; {} if nothing is."""
        best = self._best
        if best is None:
            return {}
        return {"score": best.score, "env_steps": best.env_steps, "weights": best.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._best = Candidate(**state) if state else None


def _copied(tree: Any) -> Any:
    """Return a copy of a tree of weights that shares no memory with it."""
    return map_leaves(_copied_leaf, tree)


def _copied_leaf(leaf: Any) -> Any:
    if hasattr(leaf, "detach"):  # a tensor; torch isn't imported for tables
        return leaf.detach().clone()
    return copy.deepcopy(leaf)

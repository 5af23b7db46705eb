"""Garnet: random MDPs, on which claims are tested that shall not hang on one example."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel

if TYPE_CHECKING:
    from rl_lab.envs.canvas import Panel


class Garnet(TabularEnv):
    """A random MDP of so many states and actions, each pair of which leads to `branching` states.

    The successors of a pair are drawn without replacement; their probabilities are the gaps between
    branching - 1 even draws from 0..1; a pair's reward is a standard normal number, paid whatever
    follows. All is drawn from `problem_seed`. It never ends; the start is drawn evenly.

    Source: Archibald, McKinnon and Thomas, "On the generation of Markov decision processes", 1995,
    https://doi.org/10.1057/jors.1995.50; Bhatnagar, Sutton, Ghavamzadeh and Lee, "Natural
    actor-critic algorithms", 2009, section 7, whose rewards hang on state and action too.
    """

    def __init__(
        self,
        *,
        states: int = 20,
        actions: int = 4,
        branching: int = 3,
        problem_seed: int = 0,
        render_mode: str | None = None,
    ) -> None:
        if states < 1 or actions < 1:
            raise ValueError(f"states {states} and actions {actions} must be at least 1")
        if not 1 <= branching <= states:
            raise ValueError(f"branching {branching} must be in 1..{states}, the number of states")
        super().__init__(_make_model(states, actions, branching, problem_seed), render_mode=render_mode)

    def _make_picture(self) -> Panel:
        from rl_lab.envs.panels import garnet_panel

        return garnet_panel(self._model)


@lru_cache(maxsize=8)
def _make_model(states: int, actions: int, branching: int, problem_seed: int) -> TabularModel:
    rng = np.random.default_rng(problem_seed)
    rows = []
    for state in range(states):
        for action in range(actions):
            cuts = np.sort(rng.random(branching - 1))
            chances = np.diff(cuts, prepend=0.0, append=1.0)
            successors = rng.choice(states, branching, replace=False)
            reward = rng.standard_normal()
            rows += [(state, action, p, s, reward, False) for p, s in zip(chances, successors, strict=True)]
    return TabularModel.from_outcomes(rows, states, actions, np.full(states, 1.0 / states))

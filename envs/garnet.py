"""Garnet: random MDPs, for claims that shouldn't rest on a single example."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.checks import require_whole
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel


class Garnet(TabularEnv):
    """A random MDP in which each of the `actions` in each of the `states` can lead to `branching` states.

    The successors of a state and action are drawn without replacement, and their probabilities are the gaps
    between branching - 1 uniform draws from 0..1. The reward is a standard normal number for each state and action,
    whatever the successor. Everything is drawn from `problem_seed`. Each state is an equally likely start, and the
    problem never terminates.

    Source: Archibald, McKinnon and Thomas, "On the generation of Markov decision processes", 1995,
    https://doi.org/10.1057/jors.1995.50; Bhatnagar, Sutton, Ghavamzadeh and Lee, "Natural actor-critic
    algorithms", Automatica 2009, https://doi.org/10.1016/j.automatica.2009.07.008, section 7, where rewards depend
    on state and action too.
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
        """Make the environment. Raises ValueError for numbers below 1, or `branching` above `states`."""
        states, actions = require_whole("states", states, 1), require_whole("actions", actions, 1)
        if require_whole("branching", branching, 1) > states:
            raise ValueError(f"branching {branching} must be in 1..{states}, the number of states")
        problem_seed = require_whole("problem_seed", problem_seed, 0)
        super().__init__(_make_model(states, actions, branching, problem_seed), render_mode=render_mode)

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.state_circle import state_circle_panel

        first_rows = self._model.indptr[self._model.num_actions : -1 : self._model.num_actions]
        successors = np.split(self._model.successor, first_rows)
        return state_circle_panel([np.unique(follow) for follow in successors], "Garnet")


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

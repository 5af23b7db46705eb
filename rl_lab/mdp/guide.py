"""Leads play to where random actions seldom come, by the way that the model makes most likely."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from rl_lab.mdp.model import TabularModel
from rl_lab.types import Array

MAX_OUTCOMES = 200_000  # a larger model is played at random alone, since planning in it would take seconds
DISCOUNT = 0.99  # of the probability of arriving, per step: sooner is better
MOST_SWEEPS = 200
SMALL_CHANGE = 1e-4  # of that probability, at which a plan is good enough
KINDS, FAR = 3, 3  # plans for rare outcomes, and for states that are far away
PLAN_STEPS = 400  # for each of them, ...
ARRIVALS = 4  # ... or so many arrivals: the outcome that counts may be one of several


def distances(model: TabularModel) -> Array:
    """Return in how many steps each state can be reached by available actions, float64 [S]; inf where it can't."""
    onward = _onward(model)
    shape = (model.num_states, model.num_states)
    owner = model.row[onward] // model.num_actions
    graph = sparse.csr_matrix((np.ones(len(owner)), (owner, model.successor[onward])), shape)
    starts = np.flatnonzero(model.initial > 0)
    return csgraph.dijkstra(graph, unweighted=True, indices=starts, min_only=True)


def _onward(model: TabularModel) -> Array:
    """Return which outcomes may come and don't end the episode, bool [K]."""
    return ~model.terminated & (model.probability > 0) & model.available.ravel()[model.row]


class Plan:
    """Arrives at one of some rows (pairs of a state and an action), as likely and as soon as possible.

    Args:
        targets: which rows, bool [S * A].
    """

    def __init__(self, model: TabularModel, targets: Array):
        chain, available = model.continuation, model.available
        reach = np.zeros(model.num_states)
        for _ in range(MOST_SWEEPS):
            arriving = np.where(targets, 1.0, DISCOUNT * (chain @ reach)).reshape(available.shape)
            better = np.where(available, arriving, 0.0).max(axis=1)
            done = np.abs(better - reach).max() < SMALL_CHANGE
            reach = better
            if done:
                break
        self._arriving = arriving

    def choose(self, state: int, actions: Array, rng: np.random.Generator) -> int:
        """Return one of the best of some actions, ties broken at random."""
        chances = self._arriving[state, actions]
        return int(rng.choice(actions[chances == chances.max()]))


class Guide:
    """Plays towards outcomes that are rare in the model, then towards states that are far from the start."""

    def __init__(self, model: TabularModel, rng: np.random.Generator):
        self._model, self._rng = model, rng
        self._plans = [*self._rare_rows(), *self._far_rows()]
        self._left = self._arrivals = 0
        self._plan: Plan | None = None
        self._targets = np.zeros(0, bool)

    @property
    def done(self) -> bool:
        """Whether all plans have been followed."""
        return not self._plans and (self._left == 0 or self._arrivals == ARRIVALS)

    def _rare_rows(self) -> list[Array]:
        """Return the rows with each of the rarest kinds of (reward, end), rarest first: bool [S * A] each."""
        model = self._model
        near = np.isfinite(distances(model))[model.row // model.num_actions]
        possible = near & (model.probability > 0) & model.available.ravel()[model.row]
        pairs = np.stack([model.reward, model.terminated], axis=1)[possible]
        _, kind, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        rows, kind = model.row[possible], kind.ravel()
        return [self._marked(rows[kind == k]) for k in np.argsort(counts, kind="stable")[:KINDS]]

    def _far_rows(self) -> list[Array]:
        """Return all rows of one state, for states from the farthest to the nearest: bool [S * A] each."""
        far = distances(self._model)
        states = np.flatnonzero(np.isfinite(far))
        states = states[np.argsort(-far[states], kind="stable")]
        chosen = states[np.linspace(0, len(states) // 2, FAR, dtype=int)] if len(states) > FAR else states
        actions = np.arange(self._model.num_actions)
        return [self._marked(state * len(actions) + actions) for state in dict.fromkeys(chosen.tolist())]

    def _marked(self, rows: Array) -> Array:
        marked = np.zeros(self._model.available.size, bool)
        marked[rows] = True
        return marked & self._model.available.ravel()

    def choose(self, state: int, actions: Array) -> int:
        """Return the action of the current plan; the next plan begins when one has arrived or taken too long."""
        if self._plan is None or self._left == 0 or self._arrivals == ARRIVALS:
            self._targets, self._left, self._arrivals = self._plans.pop(0), PLAN_STEPS, 0
            self._plan = Plan(self._model, self._targets)  # made when it is begun: it takes milliseconds
        action = self._plan.choose(state, actions, self._rng)
        self._left -= 1
        self._arrivals += int(self._targets[state * self._model.num_actions + action])
        return action

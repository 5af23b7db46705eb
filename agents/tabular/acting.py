"""How tabular agents act: on the values they have learned, or uniformly at random while they predict."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rl_lab.agent import Policy
from rl_lab.mdp.learning.exploring import choose_all, probability
from rl_lab.policies import random_actions, random_best
from rl_lab.seeding import seed_of
from rl_lab.types import Array, Decision, Obs, State

from .tables import ALL_LEGAL, Tables, own

MOST_ANSWERS = 1024  # decisions that are made beforehand, one for each action
RowsOf = Callable[[Obs], Array]  # observations [N, ...] -> rows of the table, int64 [N]


class Exploring:
    """Boltzmann's distribution or upper confidence bounds over the live table.

    Args:
        kind: BOLTZMANN or UCB.
        parameter: returns the temperature or the width.
    """

    def __init__(
        self,
        tables: Tables,
        row_of: RowsOf,
        kind: int,
        parameter: Callable[[], float],
        rng: np.random.Generator,
    ):
        self._tables, self._row_of, self._kind, self._parameter = tables, row_of, kind, parameter
        self._rng = rng
        self._choose = tables.run(choose_all)

    def initial_state(self, num_envs: int) -> State:
        """Return (): it remembers nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Draw an action for each environment, int64 [N]."""
        action = np.zeros(len(is_first), np.int64)
        self._choose(
            self._kind, self._parameter(), self._tables.q, self._row_of(obs), self._tables.tried,
            ALL_LEGAL if mask is None else own(mask, np.bool_), self._rng.random((len(action), 2)), action,
        )  # fmt: skip
        return Decision(action)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the values `q_values` and the distribution `probabilities`, both [N, A]."""
        tables, rows = self._tables, self._row_of(obs)
        legal, parameter, actions = ALL_LEGAL if mask is None else mask, self._parameter(), tables.q.shape[1]
        probabilities = [
            [
                probability(self._kind, parameter, tables.q, s, tables.tried, legal, i, a)
                for a in range(actions)
            ]
            for i, s in enumerate(rows)
        ]
        q = tables.q[rows] if mask is None else np.where(mask, tables.q[rows], -np.inf)
        return {"q_values": q, "probabilities": np.array(probabilities).reshape(q.shape)}


class Alone:
    """Chooses as the epsilon-greedy policy over a table, from the same draws, and faster for a single environment.

    The actions that it returns for one can't be written to, since they are made only once.

    Args:
        policy: for several environments, for masks, and for `inspect`.
        q: the live table [S, A].
        epsilon: returns the probability of a random action.
        rng: as `policy` has it.
    """

    def __init__(
        self, policy: Policy, q: Array, row_of: RowsOf, epsilon: Callable[[], float], rng: np.random.Generator
    ):
        self._policy, self._q, self._row_of, self._epsilon, self._rng = policy, q, row_of, epsilon, rng
        actions = np.arange(q.shape[1])[:, None]  # [A, 1]
        actions.flags.writeable = False
        self._answers = [Decision(action) for action in actions]
        self.initial_state, self.inspect = policy.initial_state, policy.inspect

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each environment, int64 [N]."""
        if mask is not None or len(is_first) != 1:
            return self._policy.act(obs, state, is_first, mask)
        rng = self._rng
        if rng.random() < self._epsilon():
            return self._answers[rng.integers(len(self._answers))]  # as `random_actions` draws it
        return self._answers[random_best(self._q[self._row_of(obs)[0]].tolist(), rng)]


class UniformPolicy:
    """Draws legal actions uniformly, and tells the values of states that have been learned for it.

    Args:
        generator: returns the generator to draw from; called whenever `initial_state` starts a new play.
    """

    def __init__(
        self,
        values: Array,
        row_of: RowsOf,
        num_actions: int,
        generator: Callable[[], np.random.Generator],
    ):
        self._values, self._row_of, self._num_actions = values, row_of, num_actions
        self._generator, self._rng = generator, generator()

    def initial_state(self, num_envs: int) -> State:
        """Return (); the actions that follow are drawn from a generator that is asked for anew."""
        self._rng = self._generator()
        return ()

    def for_episode(self, seed: int) -> UniformPolicy:
        """Return one whose draws follow from an episode's seed, so that watched episodes differ from one another."""

        def generator() -> np.random.Generator:
            return np.random.default_rng(seed_of(seed, "prediction episode"))

        return UniformPolicy(self._values, self._row_of, self._num_actions, generator)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Draw an action for each environment, int64 [N]."""
        return Decision(random_actions(self._rng, len(is_first), self._num_actions, mask))

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the distribution `probabilities` [N, A], and `value` [N]."""
        allowed = np.ones((len(is_first), self._num_actions)) if mask is None else mask.astype(float)
        chances = allowed / allowed.sum(axis=-1, keepdims=True)
        return {"probabilities": chances, "value": self._values[self._row_of(obs)]}

"""A finite Markov decision process: the outcomes of every action, with their probabilities and rewards.

Outcomes are stored one by one rather than as expectations, so that the same model can be solved, sampled
and displayed. An outcome that terminates has no continuation, so terminal states need no special case:
their value never enters a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from scipy import sparse

from rl_lab.mdp.sources import has_toy_text, is_fickle, is_untouched, own_method, read_masks
from rl_lab.types import Array, UsageError

BLOCK_ROWS = 2**16
SUM_TOLERANCE = 1e-9  # on the sum of a row's probabilities: lets rounding pass, but no mistake


def index_type(size: int) -> type[np.signedinteger]:
    """Return int32 if it can index `size` items, otherwise int64."""
    return np.int32 if size < 2**31 else np.int64


def show_index(states: Array) -> Array:
    """Return states [K] as the observations of a Discrete space: their own numbers, int64 [K]."""
    return np.asarray(states, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TabularModel:
    """A finite MDP in compressed rows: row `state * num_actions + action` holds the outcomes of one action.

    Raises:
        ValueError: arrays don't fit together, the outcomes of a (state, action) aren't a distribution, or a
            state has no available action. The message names the first offender.
    """

    indptr: Array  # int64 [S * A + 1]
    """Row i owns the outcomes `indptr[i]:indptr[i + 1]`."""
    probability: Array  # float64 [K]
    """Probability of each outcome; a successor may occur more than once in a row."""
    successor: Array  # int32 [K], int64 beyond 2**31 states
    """The state that follows, even if the episode terminates in it."""
    reward: Array  # float64 [K]
    """Reward of each outcome."""
    terminated: Array  # bool [K]
    """Whether the episode ends with this outcome."""
    initial: Array  # float64 [S]
    """Probability of starting in each state."""
    available: Array  # bool [S, A]
    """Legal actions; the row of an illegal one may be empty."""
    observe: Callable[[Array], Array] = show_index
    """Map states [K] to the observations [K, ...] that the environment would show."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_rows(self)
        _check_initial(self.initial)

    @property
    def num_states(self) -> int:
        """The number of states, S."""
        return int(self.available.shape[0])

    @property
    def num_actions(self) -> int:
        """The number of actions, A."""
        return int(self.available.shape[1])

    @cached_property
    def expected_reward(self) -> Array:
        """The expected reward of one step, [S, A]; 0 for an empty row."""
        return self._sum_rows(self.probability, self.reward).reshape(self.available.shape)

    @cached_property
    def termination(self) -> Array:
        """The probability that one step ends the episode, [S, A]."""
        return self._sum_rows(self.probability, self.terminated).reshape(self.available.shape)

    @cached_property
    def continuation(self) -> sparse.csr_matrix:
        """The probability of reaching each state without terminating, [S * A, S]."""
        weights = np.where(self.terminated, 0.0, self.probability)
        shape = (self.available.size, self.num_states)
        narrow = index_type(max(len(weights), self.num_states))
        indices, indptr = self.successor.astype(narrow), self.indptr.astype(narrow)
        matrix = sparse.csr_matrix((weights, indices, indptr), shape=shape)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix

    @property
    def row(self) -> Array:
        """The row of each outcome, int64 [K]."""
        return np.repeat(np.arange(self.available.size), np.diff(self.indptr))

    def _sum_rows(self, *factors: Array) -> Array:
        """Multiply factors [K] and sum each row's products, [S * A]; block by block, to save memory."""
        sums = np.zeros(self.available.size)
        for start in range(0, len(sums), BLOCK_ROWS):
            offsets = self.indptr[start : start + BLOCK_ROWS + 1]
            product = np.prod([f[offsets[0] : offsets[-1]] for f in factors], axis=0, dtype=np.float64)
            row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
            sums[start : start + BLOCK_ROWS] = np.bincount(row, product, len(offsets) - 1)
        return sums

    @classmethod
    def from_outcomes(
        cls,
        outcomes: Sequence[tuple] | Array,
        num_states: int,
        num_actions: int,
        initial: Sequence[float] | Array,
        available: Array | None = None,
        observe: Callable[[Array], Array] = show_index,
    ) -> TabularModel:
        """Build a model from rows [K, 6] of (state, action, probability, successor, reward, terminated).

        Rows may come in any order; the outcomes of one (state, action) keep their order.

        Args:
            initial: probability of starting in each state, [S].
            available: legal actions, bool [S, A]; by default those that have an outcome.

        Raises:
            ValueError: an index is out of range, or the model is invalid (see the class).
        """
        table = np.asarray(outcomes, dtype=np.float64).reshape(-1, 6)
        _check_indices(table, num_states, num_actions)
        row = table[:, 0].astype(np.int64) * num_actions + table[:, 1].astype(np.int64)
        order = np.argsort(row, kind="stable")
        counts = np.bincount(row, minlength=num_states * num_actions)
        if available is None:
            available = counts.reshape(num_states, num_actions) > 0
        return cls(
            indptr=np.concatenate(([0], np.cumsum(counts))),
            probability=table[order, 2],
            successor=table[order, 3].astype(index_type(num_states)),
            reward=table[order, 4],
            terminated=table[order, 5] != 0,
            initial=np.asarray(initial, dtype=np.float64),
            available=np.asarray(available, dtype=bool),
            observe=observe,
        )

    @classmethod
    def from_arrays(
        cls,
        probability: Array,
        successor: Array,
        reward: Array,
        terminated: Array | bool = False,
        initial: Array | None = None,
        available: Array | None = None,
        observe: Callable[[Array], Array] = show_index,
    ) -> TabularModel:
        """Build a model from arrays [S, A, B] of B outcomes for each (state, action), without a Python loop.

        Arrays that have the right type already are kept, not copied.

        Args:
            probability: [S, A, B]; 0 is allowed, for (state, action) pairs with fewer than B outcomes.
            successor: integers [S, A, B].
            reward: any shape that broadcasts to [S, A, B], such as [S, A, 1].
            terminated: any shape that broadcasts to [S, A, B].
            initial: probability of starting in each state, [S]; by default uniform.
            available: legal actions, bool [S, A]; by default all.

        Raises:
            ValueError: shapes don't fit together, or the model is invalid (see the class).
        """
        probability = np.ascontiguousarray(probability, dtype=np.float64)
        if probability.ndim != 3 or np.shape(successor) != probability.shape:
            raise ValueError(
                f"probability {probability.shape} and successor {np.shape(successor)} must be [S, A, B]"
            )
        shape, (states, actions, width) = probability.shape, probability.shape
        return cls(
            indptr=np.arange(states * actions + 1, dtype=np.int64) * width,
            probability=probability.reshape(-1),
            successor=_narrow(np.asarray(successor), states).reshape(-1),
            reward=np.broadcast_to(np.asarray(reward, np.float64), shape).reshape(-1),
            terminated=np.broadcast_to(np.asarray(terminated, bool), shape).reshape(-1),
            initial=np.full(states, 1 / states) if initial is None else np.asarray(initial, np.float64),
            available=np.ones((states, actions), bool) if available is None else np.asarray(available, bool),
            observe=observe,
        )

    @classmethod
    def from_toy_text(
        cls,
        transitions: Mapping[int, Mapping[int, Sequence[tuple]]],
        initial: Sequence[float] | Array,
        available: Array | None = None,
        observe: Callable[[Array], Array] = show_index,
    ) -> TabularModel:
        """Build a model from Gymnasium's `P[state][action] = [(probability, successor, reward, terminated)]`.

        `P` also lists moves out of states in which every episode is already over (CliffWalking's goal).
        They are replaced by termination without reward, so that such states are worth 0.

        Args:
            transitions: `P`.
            initial: probability of starting in each state, [S].
            available: legal actions, bool [S, A]; by default those that `P` lists.

        Raises:
            ValueError: the model is invalid (see the class).
        """
        num_actions = 1 + max(action for rows in transitions.values() for action in rows)
        outcomes = [
            (state, action, *outcome)
            for state, rows in transitions.items()
            for action, row in rows.items()
            for outcome in row
        ]
        model = cls.from_outcomes(outcomes, len(transitions), num_actions, initial, available, observe)
        table = np.asarray(outcomes, dtype=np.float64)
        final = _find_final(model)
        table = table[~final[table[:, 0].astype(np.int64)]]
        ends = [(s, a, 1.0, s, 0.0, True) for s in np.flatnonzero(final) for a in range(num_actions)]
        table = np.concatenate((table, np.asarray(ends, dtype=np.float64).reshape(-1, 6)))
        return cls.from_outcomes(table, model.num_states, num_actions, initial, model.available, observe)


def extract_model(env: gymnasium.Env) -> TabularModel | None:
    """Return the finite MDP that is played through `env`; None if no model is known.

    An environment provides its model as a method `model()` that takes no arguments and returns a
    `TabularModel`, or as toy-text's `P` together with `initial_state_distrib`. Other things of these names are
    left alone. A wrapper may change observations, rewards or actions, so that the model no longer describes
    what is played: below such a wrapper the answer is None. A custom wrapper that leaves them alone declares
    so with a class attribute `keeps_model = True`.

    Raises:
        UsageError: the model isn't valid; one line says where.
    """
    base = env.unwrapped
    if not is_untouched(env):
        return None
    try:
        if (own := own_method(base)) is not None:
            try:
                model = own()
            except Exception:  # a method of that name which isn't ours
                return None
            return model if isinstance(model, TabularModel) else None
        return _from_toy_text(base) if has_toy_text(base) else None
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"the model of {type(base).__name__} isn't valid: {error}") from error


def why_no_model(env: gymnasium.Env, env_id: str) -> str:
    """Return why `extract_model` found no model (part of a line, which names `env_id`)."""
    base = env.unwrapped
    if not is_untouched(env):
        return (
            f"the wrappers around {env_id} may change what is played (allowed: those with keeps_model = True)"
        )
    if is_fickle(base):
        return (
            f"with fickle_passenger {env_id} keeps a state that its table doesn't have (allowed: without it)"
        )
    known = "FrozenLake, Taxi, CliffWalking, most of lab/*, or an environment with a method model()"
    return f"{env_id} gives no model (allowed: {known})"


def _from_toy_text(base: Any) -> TabularModel | None:
    if is_fickle(base):
        return None
    initial = np.asarray(base.initial_state_distrib, dtype=np.float64)
    if not np.isfinite(initial).all() or not initial.any():
        raise UsageError(f"{type(base).__name__} has no state to start in (allowed: a map with a start, S)")
    available = read_masks(base, len(base.P)) if callable(getattr(base, "action_mask", None)) else None
    return TabularModel.from_toy_text(base.P, initial, available)


def find_reaching(graph: sparse.spmatrix, targets: Array) -> Array:
    """Return the states, bool [S], from which a target (bool [S]) can be reached along `graph` [S, S]."""
    edges = sparse.csr_matrix(graph)
    edges = sparse.csr_matrix((np.ones_like(edges.data), edges.indices, edges.indptr), edges.shape)
    reached = np.asarray(targets, dtype=bool)
    while True:
        wider = reached | (edges @ reached.astype(np.float64) > 0)
        if np.array_equal(wider, reached):
            return reached
        reached = wider


def _narrow(successor: Array, num_states: int) -> Array:
    """Return successors in the smallest integer type; values out of range are left for `TabularModel` to report."""
    if not np.issubdtype(successor.dtype, np.integer):
        raise ValueError(f"successor must hold integers, not {successor.dtype}")
    inside = not successor.size or (successor.min() >= 0 and successor.max() < num_states)
    return np.ascontiguousarray(successor, dtype=index_type(num_states) if inside else None)


def _find_final(model: TabularModel) -> Array:
    """Return the states, bool [S], that can only be reached by ending an episode."""
    owner = model.row // model.num_actions
    shape = (model.num_states, model.num_states)
    onward = (~model.terminated) & (model.probability > 0)
    graph = sparse.csr_matrix((np.ones(onward.sum()), (model.successor[onward], owner[onward])), shape)
    live = find_reaching(
        graph, model.initial > 0
    )  # the graph points backwards: states reachable from the start
    entered = np.zeros(model.num_states, dtype=bool)
    entered[model.successor[model.terminated & live[owner]]] = True
    return entered & ~live


def _check_shapes(model: TabularModel) -> None:
    if model.available.ndim != 2 or model.initial.shape != model.available.shape[:1]:
        raise ValueError(
            f"initial {model.initial.shape} and available {model.available.shape} must be [S] and [S, A]"
        )
    outcomes = (model.probability, model.successor, model.reward, model.terminated)
    if model.indptr.shape != (model.available.size + 1,) or np.any(np.diff(model.indptr) < 0):
        raise ValueError(f"indptr must be {model.available.size + 1} non-decreasing offsets")
    if any(array.shape != (model.indptr[-1],) for array in outcomes):
        shapes = [array.shape for array in outcomes]
        raise ValueError(f"outcomes have the shapes {shapes}, indptr asks for {int(model.indptr[-1])} each")


def _check_indices(table: Array, num_states: int, num_actions: int) -> None:
    limits = ((0, "state", num_states), (1, "action", num_actions), (3, "successor", num_states))
    for column, name, size in limits:
        index = table[:, column]
        bad = np.flatnonzero(~((index >= 0) & (index < size) & (index == np.floor(index))))
        if bad.size:
            s, a = table[bad[0], :2]
            raise ValueError(
                f"{name} {index[bad[0]]:g} of (state {s:g}, action {a:g}) is out of range 0..{size - 1}"
            )


def _check_rows(model: TabularModel) -> None:
    """Raise ValueError at the first row that isn't a distribution over known states."""
    successor = model.successor
    faults = (
        (~np.isfinite(model.probability), "probability", model.probability, "a finite number"),
        (model.probability < 0, "probability", model.probability, "at least 0"),
        (~np.isfinite(model.reward), "reward", model.reward, "a finite number"),
        ((successor < 0) | (successor >= model.num_states), "successor", successor, "a state"),
    )
    for wrong, name, values, rule in faults:
        if wrong.any():
            first = int(np.argmax(wrong))
            where = _name_row(model, int(np.searchsorted(model.indptr, first, side="right")) - 1)
            raise ValueError(f"{name} {values[first]} of {where} must be {rule}")
    _check_sums(model)


def _check_sums(model: TabularModel) -> None:
    stuck = ~model.available.any(axis=1)
    if stuck.any():
        raise ValueError(f"state {int(np.argmax(stuck))} has no available action")
    total = model._sum_rows(model.probability)
    needed = model.available.ravel() | (np.diff(model.indptr) > 0)
    wrong = needed & (np.abs(total - 1.0) > SUM_TOLERANCE)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"probabilities of {_name_row(model, first)} sum to {total[first]}, not to 1")


def _name_row(model: TabularModel, row: int) -> str:
    return f"(state {row // model.num_actions}, action {row % model.num_actions})"


def _check_initial(initial: Array) -> None:
    wrong = ~(initial >= 0)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"initial probability {initial[first]} of state {first} must be at least 0")
    if abs(initial.sum() - 1.0) > SUM_TOLERANCE:
        raise ValueError(f"initial probabilities sum to {initial.sum()}, not to 1")

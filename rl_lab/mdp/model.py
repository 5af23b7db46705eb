"""A finite Markov decision process: who follows whom, with what probability, at what reward.

The outcomes of each (state, action) are kept apart rather than as expectations, so that the same
model can be solved, sampled and shown. An outcome that terminates leaves no continuation, so
terminal states need no special case: their value never enters a target, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers
from scipy import sparse

from rl_lab.types import Array

BLOCK_ROWS = 2**16
SUM_TOLERANCE = 1e-9  # on the sum of a row's probabilities: thirds and their like pass, mistakes do not

# Wrappers that neither change what is seen, chosen or paid, nor when an episode terminates.
_TRANSPARENT = (
    wrappers.TimeLimit,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.RecordVideo,
    wrappers.RenderCollection,
    wrappers.HumanRendering,
)


def index_type(size: int) -> type[np.signedinteger]:
    """Return the smallest integer type, of 32 bits or 64, that numbers `size` things."""
    return np.int32 if size < 2**31 else np.int64


def show_index(states: Array) -> Array:
    """Return each state's own number, as environments with a Discrete observation space show it."""
    return np.asarray(states, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class TabularModel:
    """A finite MDP in compressed rows. Row `state * num_actions + action` holds one action's outcomes.

    Raises ValueError naming the first (state, action) whose outcomes are no distribution, and the
    first state without an available action.
    """

    indptr: Array  # int64 [S * A + 1]
    """Row i owns the outcomes `indptr[i]:indptr[i + 1]`."""
    probability: Array  # float64 [K]
    """Probability of each outcome; the same successor may occur more than once in a row."""
    successor: Array  # int32 [K], int64 beyond 2**31 states
    """The state that follows, also where the episode terminates in it."""
    reward: Array  # float64 [K]
    """Reward paid with each outcome."""
    terminated: Array  # bool [K]
    """Whether the episode ends with this outcome, so that nothing is earned after it."""
    initial: Array  # float64 [S]
    """Probability of starting in each state."""
    available: Array  # bool [S, A]
    """Legal actions; a row of an illegal one may be empty."""
    observe: Callable[[Array], Array] = show_index
    """Map states [K] to the observations [K, ...] that the environment would show."""

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_rows(self)
        _check_initial(self.initial)

    @property
    def num_states(self) -> int:
        """Number of states, S."""
        return int(self.available.shape[0])

    @property
    def num_actions(self) -> int:
        """Number of actions, A."""
        return int(self.available.shape[1])

    @cached_property
    def expected_reward(self) -> Array:
        """Return the expected reward [S, A] of one step; 0 for an empty row."""
        return self._sum_rows(self.probability, self.reward).reshape(self.available.shape)

    @cached_property
    def termination(self) -> Array:
        """Return the probability [S, A] that one step ends the episode."""
        return self._sum_rows(self.probability, self.terminated).reshape(self.available.shape)

    @cached_property
    def continuation(self) -> sparse.csr_matrix:
        """Return the probabilities [S * A, S] of reaching each state without terminating."""
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
        """Return the row number [K] of each outcome."""
        return np.repeat(np.arange(self.available.size), np.diff(self.indptr))

    def _sum_rows(self, *factors: Array) -> Array:
        """Return the sums [S * A] of products of outcomes' factors [K], block by block to save memory."""
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

        The order of the rows is free, but for outcomes of one (state, action), which keep theirs.
        Without `available`, an action is available where it has an outcome.
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
        """Build a model from arrays [S, A, B] of B outcomes for each (state, action); nothing is looped over.

        `reward` and `terminated` may have any shape that broadcasts, such as [S, A, 1]. Outcomes of
        probability 0 are allowed, to fill up. Without `initial`, all states are as likely. Arrays of
        the right type are kept, not copied.
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

        `P` also lists moves out of states in which every episode is already over (CliffWalking's
        goal). They are replaced by an end without reward, so that such states are worth 0.
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
    """Return the finite MDP that is played through `env`; None where it has none that is known.

    An environment offers its model as a method `model()`, or as toy-text's `P` with
    `initial_state_distrib`. A wrapper that may change observations, rewards or actions makes the
    model another one than is played, hence None; a wrapper of one's own that leaves them alone
    says so with a class attribute `keeps_model = True`.
    """
    base = env.unwrapped
    if not _is_untouched(env):
        return None
    if callable(getattr(base, "model", None)):
        model = base.model()  # type: ignore[attr-defined]
        return model if isinstance(model, TabularModel) else None
    # Taxi's fickle passenger is decided once an episode and remembered outside the state.
    if not hasattr(base, "P") or not hasattr(base, "initial_state_distrib"):
        return None
    if getattr(base, "fickle_passenger", False):
        return None
    available = _read_masks(base, len(base.P)) if hasattr(base, "action_mask") else None
    return TabularModel.from_toy_text(base.P, base.initial_state_distrib, available)


def find_reaching(graph: sparse.spmatrix, targets: Array) -> Array:
    """Return which states [S] can reach a target [S] along the non-zero entries of `graph` [S, S]."""
    edges = sparse.csr_matrix(graph)
    edges = sparse.csr_matrix((np.ones_like(edges.data), edges.indices, edges.indptr), edges.shape)
    reached = np.asarray(targets, dtype=bool)
    while True:
        wider = reached | (edges @ reached.astype(np.float64) > 0)
        if np.array_equal(wider, reached):
            return reached
        reached = wider


def _narrow(successor: Array, num_states: int) -> Array:
    """Return successors as small integers; those out of range are left for `TabularModel` to name."""
    if not np.issubdtype(successor.dtype, np.integer):
        raise ValueError(f"successor must hold integers, not {successor.dtype}")
    inside = not successor.size or (successor.min() >= 0 and successor.max() < num_states)
    return np.ascontiguousarray(successor, dtype=index_type(num_states) if inside else None)


def _find_final(model: TabularModel) -> Array:
    """Return the states [S] that play reaches only as the end of an episode."""
    owner = model.row // model.num_actions
    shape = (model.num_states, model.num_states)
    onward = (~model.terminated) & (model.probability > 0)
    graph = sparse.csr_matrix((np.ones(onward.sum()), (model.successor[onward], owner[onward])), shape)
    live = find_reaching(graph, model.initial > 0)  # the graph points backwards: reachable from the start
    entered = np.zeros(model.num_states, dtype=bool)
    entered[model.successor[model.terminated & live[owner]]] = True
    return entered & ~live


def _is_untouched(env: gymnasium.Env) -> bool:
    base = env.unwrapped
    if env.observation_space != base.observation_space or env.action_space != base.action_space:
        return False
    while isinstance(env, gymnasium.Wrapper):
        if not _is_transparent(env):
            return False
        env = env.env
    return True


def _is_transparent(wrapper: gymnasium.Wrapper) -> bool:
    kind = type(wrapper)
    passes_all = kind.step is gymnasium.Wrapper.step and kind.reset is gymnasium.Wrapper.reset
    return passes_all or isinstance(wrapper, _TRANSPARENT) or bool(getattr(kind, "keeps_model", False))


def _read_masks(base: Any, num_states: int) -> Array:
    masks = np.array([base.action_mask(state) for state in range(num_states)], dtype=bool)
    return masks | ~masks.any(axis=1, keepdims=True)  # a state without legal actions is one that is over


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
    """Raise ValueError at the first row that is no distribution over known states."""
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

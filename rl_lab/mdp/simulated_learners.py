"""What learners of a compiled simulation are, and what they know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rl_lab.mdp.learning.exploring import UCB
from rl_lab.mdp.learning.planning import Model, Queue, fresh_model, fresh_queue
from rl_lab.mdp.learning.rules import DOUBLE_Q
from rl_lab.mdp.learning.traces import TD_LAMBDA, most_traces
from rl_lab.mdp.learning.windows import EVERY_VISIT, FIRST_VISIT
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"

# Families: of `learning.rules`, `learning.windows`, `learning.traces` and `learning.planning`.
AT_ONCE, WINDOWS, TRACES, PLANNING = range(4)
DYNA, DYNA_PLUS, SWEEPING = range(3)  # rules that plan


class Kind(NamedTuple):
    """How it learns and how actions are chosen, by the codes of `rl_lab.mdp.learning`."""

    family: int
    rule: int
    behaviour: int
    size: int
    trace: int = 0
    greedy_target: bool = False
    """Learn about the greedy policy, whatever acts; for rules of `learning.windows`."""

    @property
    def predicts(self) -> bool:
        """Whether it learns values of states, for the policy that acts uniformly at random; `behaviour` isn't read."""
        return self.family == TRACES and self.rule == TD_LAMBDA


class Numbers(NamedTuple):
    """The numbers of a rule. What changes with time goes linearly from start to end, and stays as it is then."""

    gamma: float
    parameter_start: float  # of the behaviour
    parameter_end: float
    parameter_steps: float
    rate_start: float
    rate_end: float
    rate_steps: float
    power: float
    decay: float  # gamma * lambda
    n: int
    planning_steps: int = 0  # after each step; with SWEEPING the most backups
    outcomes: int = 1  # that the learned model remembers of each pair
    bonus: float = 0.0  # of DYNA_PLUS
    threshold: float = 0.0  # of SWEEPING


@dataclass(frozen=True)
class SimulatedLearner:
    """A tabular learner as a simulation takes it."""

    kind: Kind
    numbers: Numbers
    initial_value: float = 0.0
    """Of every entry of the table."""


class Knowledge(NamedTuple):
    """What K learners know, C cells each; arrays that a rule doesn't need are empty but for their K."""

    q: Array  # float64 [K, C, A]: what they act on; [K, C, 1] where values of states are learned
    visits: Array  # int64 [K, C, A]: updates of q
    tried: Array  # int64 [K, C, A]: how often each action was chosen; for UCB
    halves: Array  # float64 [K, 2, C, A]: double Q-learning's tables, whose mean q is
    half_visits: Array  # int64 [K, 2, C, A]
    stamp: Array  # int64 [K, C, A]: first-visit Monte Carlo's; see `learning.windows`
    steps: Array  # int64 [K, W, 2]: a ring of steps that wait to be learned from; see `learning.windows`
    rewards: Array  # float64 [K, W]
    marks: Array  # int64 [K, 3]
    entry: Array  # int64 [K, T]: entries that have traces; see `learning.traces`
    trace: Array  # float64 [K, T]
    kept: Array  # int64 [K]: how many of them there are
    old: Array  # float64 [K]
    pending: Array  # int64 [K, 3]
    pending_reward: Array  # float64 [K]
    outcomes: Array  # int64 [K, C * A, M, 2]: the learned model; see `learning.planning.Model`
    payments: Array  # float64 [K, C * A, M]
    seen: Array  # int64 [K, C * A]
    visited: Array  # int64 [K, C + 1]
    last: Array  # int64 [K, C * A]: the time at which each pair was last tried
    pairs: Array  # int64 [K, C * A + 1]: the queue of prioritised sweeping; see `learning.planning.Queue`
    priority: Array  # float64 [K, C * A]
    place: Array  # int64 [K, C * A]
    heads: Array  # int64 [K, C]
    links: Array  # int64 [K, C * A * M, 2]
    checked: Array  # int64 [K, C * A + 1]


class Own(NamedTuple):
    """The arrays of one learner, as in `Knowledge`."""

    q: Array
    visits: Array
    tried: Array
    first: Array
    second: Array
    first_visits: Array
    second_visits: Array
    stamp: Array
    model: Model
    last: Array
    queue: Queue


def arrays_of(knowledge, k):
    """Return the arrays of learner k."""
    model = Model(knowledge.outcomes[k], knowledge.payments[k], knowledge.seen[k], knowledge.visited[k])
    queue = Queue(
        knowledge.pairs[k], knowledge.priority[k], knowledge.place[k], knowledge.heads[k], knowledge.links[k],
        knowledge.checked[k],
    )  # fmt: skip
    return Own(
        knowledge.q[k], knowledge.visits[k], knowledge.tried[k], knowledge.halves[k, 0],
        knowledge.halves[k, 1], knowledge.half_visits[k, 0], knowledge.half_visits[k, 1], knowledge.stamp[k],
        model, knowledge.last[k], queue,
    )  # fmt: skip


def fresh_knowledge(
    learner: SimulatedLearner, count: int, cells: int, actions: int, time_limit: int | None
) -> Knowledge:
    """Return what `count` learners begin with.

    Raises:
        ValueError: Monte Carlo needs episodes that end.
    """
    return Knowledge(
        **{
            name: np.repeat(one[None], count, axis=0)
            for name, one in _arrays_of_one(learner, cells, actions, time_limit)
        }
    )


def bytes_of_one(learner: SimulatedLearner, cells: int, actions: int, time_limit: int | None) -> int:
    """Return how many bytes one learner's knowledge takes; nothing of that size is allocated.

    Raises:
        ValueError: Monte Carlo needs episodes that end.
    """
    return sum(one.nbytes for _, one in _arrays_of_one(learner, cells, actions, time_limit))


def _arrays_of_one(
    learner: SimulatedLearner, cells: int, actions: int, time_limit: int | None
) -> Iterator[tuple[str, Array]]:
    """Yield the names of `Knowledge`, each with the array of one learner: a view of a single number, in any shape."""
    kind, numbers = learner.kind, learner.numbers
    actions = 1 if kind.predicts else actions
    double, table = kind.family == AT_ONCE and kind.rule == DOUBLE_Q, (cells, actions)
    first_visit = kind.family == WINDOWS and kind.rule == FIRST_VISIT
    window = _window_of(kind, numbers, time_limit) if kind.family == WINDOWS else 0
    traces = most_traces(numbers.decay, cells * actions) if kind.family == TRACES else 0
    halves, none = (2, cells if double else 0, actions), (0, actions)
    yield "q", _view(table, float(learner.initial_value))
    yield "visits", _view(none if double else table, 0)
    yield "tried", _view(table if kind.behaviour == UCB else none, 0)
    yield "halves", _view(halves, float(learner.initial_value))
    yield "half_visits", _view(halves, 0)
    yield "stamp", _view(table if first_visit else none, -1)
    yield "steps", _view((window, 2), 0)
    yield "rewards", _view((window,), 0.0)
    yield "marks", _view((3,), 0)
    yield "entry", _view((traces,), 0)
    yield "trace", _view((traces,), 0.0)
    yield "kept", _view((), 0)
    yield "old", _view((), 0.0)
    yield "pending", _view((3,), -1)
    yield "pending_reward", _view((), 0.0)
    yield from _of_planning(kind, numbers, cells, actions)


def _of_planning(kind: Kind, numbers: Numbers, cells: int, actions: int) -> Iterator[tuple[str, Array]]:
    """Yield the names and arrays of a learned model and of its queue; they are empty for rules that have none."""
    plans = kind.family == PLANNING
    sweeps = plans and kind.rule == SWEEPING
    yield from fresh_model(cells if plans else 0, actions, numbers.outcomes, _view)._asdict().items()
    yield "last", _view((cells * actions if plans and not sweeps else 0,), 0)
    yield from fresh_queue(cells if sweeps else 0, actions, numbers.outcomes, _view)._asdict().items()


def _view(shape: tuple[int, ...], value: float) -> Array:
    """Return an array of one value that has its size, but takes no memory."""
    return np.broadcast_to(np.array(value, np.int64 if isinstance(value, int) else np.float64), shape)


def _window_of(kind: Kind, numbers: Numbers, time_limit: int | None) -> int:
    """Return how many steps wait to be learned from at most.

    Raises:
        ValueError: Monte Carlo needs episodes that end.
    """
    if kind.rule not in (EVERY_VISIT, FIRST_VISIT):
        return numbers.n
    if time_limit is None:
        raise ValueError("Monte Carlo learns from whole episodes, and needs a time limit here")
    return time_limit

"""The loop of a compiled simulation: a learner acts on a model and learns by one of the rules of `rl_lab.mdp.learning`.

Everything that is chance in a step is drawn at its own place in the learner's stream, so that a step depends on nothing
but the learner's arrays and the number of the step: a simulation can be left and resumed at any step, and each of K
learners runs as it would alone.

A loop is made for one `Kind`, whose codes are constants in it: what they rule out isn't even compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rl_lab.jit import compile_kernel
from rl_lab.mdp import draws, outcome_tables, simulated_learners, simulated_world
from rl_lab.mdp.learning import compiled
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY, UCB, choose, random_legal
from rl_lab.mdp.learning.planning import imagine, remember, sweep, take_in
from rl_lab.mdp.learning.records import Behaviour, Sizes, Step, Table
from rl_lab.mdp.learning.rules import (
    DOUBLE_Q,
    Q_LEARNING,
    double_q_error,
    expected_sarsa_error,
    learn_entry,
    learn_half,
    q_learning_error,
)
from rl_lab.mdp.learning.step_sizes import rate_at
from rl_lab.mdp.learning.traces import TraceRule, Traces, learn_by_traces
from rl_lab.mdp.learning.windows import Window, WindowRule, learn_by_windows
from rl_lab.mdp.simulated_learners import (
    AT_ONCE,
    DYNA_PLUS,
    SWEEPING,
    TRACES,
    WINDOWS,
    Kind,
    arrays_of,
)
from rl_lab.mdp.simulated_world import AMONG, COIN, EXPLORE, begin, draw_at, follow, planning_draw
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"


class Open(NamedTuple):
    """The open episodes of K learners."""

    state: Array  # uint32 [K]
    cell: Array  # uint32 [K]
    length: Array  # int64 [K]
    earned: Array  # float64 [K]: return so far
    broken: Array  # int64 [K]: the step at which values left all bounds, counted from 1; 0 if they haven't


class Sums(NamedTuple):
    """What K learners met since it was last emptied."""

    learned: Array  # int64 [K]: steps that were learned from
    errors: Array  # float64 [K]: the sum of the sizes of their errors
    episodes: Array  # int64 [K]: that ended
    returns: Array  # float64 [K]: the sum of their returns


class Now(NamedTuple):
    """The settings that change with time, at a step."""

    parameter: float
    rate: float


def settings_at(numbers, step):
    """Return the behaviour's parameter and the step size after so many steps."""
    return Now(
        rate_at(numbers.parameter_start, numbers.parameter_end, numbers.parameter_steps, step),
        rate_at(numbers.rate_start, numbers.rate_end, numbers.rate_steps, step),
    )


def learn_at_once(rule, behaviour, size, numbers, own, coin, step, now, legal):
    """Learn from a step by a rule that needs no next action; return the error."""
    q, c, a, r, ended, after, gamma = (
        own.q, step.state, step.action, step.reward, step.terminated, step.next_state, numbers.gamma,
    )  # fmt: skip
    if rule == DOUBLE_Q and coin < 0.5:
        error = double_q_error(own.first, own.second, c, a, r, ended, after, gamma, legal, after)
        learn_half(q, own.first, own.second, own.first_visits, c, a, error, size, now.rate, numbers.power)
    elif rule == DOUBLE_Q:
        error = double_q_error(own.second, own.first, c, a, r, ended, after, gamma, legal, after)
        learn_half(q, own.second, own.first, own.second_visits, c, a, error, size, now.rate, numbers.power)
    else:
        if rule == Q_LEARNING:
            error = q_learning_error(q, c, a, r, ended, after, gamma, legal, after)
        else:
            error = expected_sarsa_error(
                q, c, a, r, ended, after, gamma, behaviour, now.parameter, own.tried, legal, after
            )
        learn_entry(q, own.visits, c, a, error, size, now.rate, numbers.power)
    return abs(error)


def window_of(knowledge, own):
    """Return the steps of all learners that wait to be learned from; the stamps are those of one."""
    return Window(knowledge.steps, knowledge.rewards, knowledge.marks, own.stamp)


def traces_of(knowledge):
    """Return the traces of all learners."""
    return Traces(
        knowledge.entry, knowledge.trace, knowledge.kept, knowledge.old, knowledge.pending,
        knowledge.pending_reward,
    )  # fmt: skip


def learn_by_planning(rule, numbers, own, table, stream, number, step, sizes):
    """Learn from a step by a rule of `learning.planning`; return whether a value moved, and the |error| if so."""
    c, a, r, ended, after, gamma = (
        step.state, step.action, step.reward, step.terminated, step.next_state, numbers.gamma,
    )  # fmt: skip
    if rule == SWEEPING:
        shown = take_in(table, own.model, own.queue, numbers.threshold, c, a, r, ended, after, gamma)
        done = sweep(table, own.model, own.queue, numbers.planning_steps, numbers.threshold, gamma, sizes)
        return (1, shown) if done > 0 else (0, 0.0)
    error = q_learning_error(own.q, c, a, r, ended, after, gamma, table.legal, after)
    learn_entry(own.q, own.visits, c, a, error, sizes.kind, sizes.rate, sizes.power)
    remember(own.model, own.q.shape[1], c, a, r, ended, after)
    own.last[c * own.q.shape[1] + a] = number + 1
    for imagined in range(numbers.planning_steps):
        place = number * numbers.planning_steps + imagined
        imagine(
            table, own.model, own.last, number + 1,
            planning_draw(stream, place, 0), planning_draw(stream, place, 1), planning_draw(stream, place, 2),
            gamma, numbers.bonus, rule == DYNA_PLUS, sizes,
        )  # fmt: skip
    return 1, abs(error)


def put_down(sums, k, learned, errors, episodes, returns):
    """Add what learner k met to the sums."""
    sums.learned[k] += learned
    sums.errors[k] += errors
    sums.episodes[k] += episodes
    sums.returns[k] += returns


def make_loop(kind: Kind) -> Callable[..., None]:
    """Return the loop in which learners of a kind learn one after the other, in plain Python.

    It takes learners first to last from step start to stop; `taken` and `came`, uint32 [K, stop - start], take the row
    and the outcome of each step, unless they are [K, 0].
    """
    family, rule, behaviour, size, trace, greedy_target = kind
    predicts = kind.predicts

    def simulate(first, last, start, stop, numbers, world, streams, knowledge, opened, sums, taken, came):
        legal, num_actions = world.legal, world.num_actions
        for k in range(first, last):
            own, stream = arrays_of(knowledge, k), streams[k]
            # A table of states has one action, which is legal. Records of arrays are made once: at every step, it would
            # cost reference counting for each array.
            table = Table(own.q, own.visits, own.tried, legal[:0] if predicts else legal)
            window, traces = window_of(knowledge, own), traces_of(knowledge)
            state, cell, length, earned = opened.state[k], opened.cell[k], opened.length[k], opened.earned[k]
            learned, errors, episodes, returns = 0, 0.0, 0, 0.0
            now = settings_at(numbers, start)
            for number in range(start, stop):
                if predicts:
                    action = random_legal(num_actions, legal, cell, draw_at(stream, number, AMONG))
                else:
                    action = choose(
                        behaviour, now.parameter, own.q, cell, own.tried, legal, cell,
                        draw_at(stream, number, EXPLORE), draw_at(stream, number, AMONG),
                    )  # fmt: skip
                if action < 0:  # none is best among values that are nan
                    opened.broken[k] = number
                    break
                if behaviour == UCB:
                    own.tried[cell, action] += 1
                row = np.uint32(state * num_actions + action)
                column = follow(world, stream, number, row)
                reward, ended, after = world.reward[column], world.ends[column], world.cell[column]
                cut = not ended and length + 1 >= world.limit
                entry = 0 if predicts else action
                step = Step(cell, entry, reward, ended, cut, after, length == 0)
                now = settings_at(numbers, number + 1)
                sizes = Sizes(size, now.rate, numbers.power)
                if family == AT_ONCE:
                    coin = draw_at(stream, number, COIN) if rule == DOUBLE_Q else 0.0
                    more = 1
                    error = learn_at_once(rule, behaviour, size, numbers, own, coin, step, now, legal)
                elif family == WINDOWS:
                    target = EPSILON_GREEDY if greedy_target else behaviour
                    about = Behaviour(target, 0.0 if greedy_target else now.parameter)
                    terms = WindowRule(rule, numbers.n, numbers.gamma)
                    more, error = learn_by_windows(terms, table, window, k, number, step, about, sizes)
                elif family == TRACES:
                    about = Behaviour(behaviour, now.parameter)
                    fading = TraceRule(rule, trace, numbers.gamma, numbers.decay)
                    more, error = learn_by_traces(fading, table, traces, k, step, about, sizes)
                else:
                    more, error = learn_by_planning(rule, numbers, own, table, stream, number, step, sizes)
                learned, errors, earned, length = learned + more, errors + error, earned + reward, length + 1
                if taken.shape[1] > 0:
                    taken[k, number - start], came[k, number - start] = row, column
                if ended or cut:
                    episodes, returns, length, earned = episodes + 1, returns + earned, 0, 0.0
                    column = begin(world, stream, number + 1)
                state, cell = world.successor[column], world.cell[column]
            opened.state[k], opened.cell[k], opened.length[k], opened.earned[k] = state, cell, length, earned
            put_down(sums, k, learned, errors, episodes, returns)

    simulate.__qualname__ = "simulate_" + "_".join(str(int(code)) for code in kind)  # with a cache of its own
    return simulate


CALLED: tuple[Callable, ...] = (
    draws.mix, draws.draw, outcome_tables.draw_outcome, draw_at, begin, follow, settings_at, arrays_of,
    learn_at_once, put_down, window_of, traces_of, learn_by_planning, planning_draw,
)  # fmt: skip


@lru_cache(maxsize=1)
def _make_callable() -> None:
    """Let compiled loops call what they call."""
    from numba.extending import register_jitable

    compiled.make_callable()
    for function in CALLED:
        register_jitable(forceinline=True)(function)


@lru_cache(maxsize=64)
def compiled_loop(kind: Kind) -> Any:
    """Return the loop of a kind as machine code; compiling takes seconds, once per machine."""
    _make_callable()
    modules = (draws, outcome_tables, simulated_world, simulated_learners, *compiled.MODULES)
    # Without Python's check for divisions by 0, which would keep loops from being taken apart; none occurs.
    return compile_kernel(make_loop(kind), modules, error_model="numpy")

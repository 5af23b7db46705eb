"""Planning with a model that is learned: Dyna-Q, Dyna-Q+ and prioritised sweeping.

Sutton & Barto (2018), "Reinforcement Learning: An Introduction", sections 8.2 to 8.4; Sutton (1990), "Integrated
Architectures for Learning, Planning, and Reacting", https://doi.org/10.1016/B978-1-55860-141-3.50030-4; Moore & Atkeson
(1993), "Prioritized Sweeping", https://link.springer.com/article/10.1007/BF00993104.

The model remembers the last M outcomes of each pair (state * A + action): `outcomes` int64 [S * A, M, 2] (successor,
and 1 if it terminated) and `payments` float64 [S * A, M] (rewards); `seen` int64 [S * A] counts all that came. Planning
draws one of them, or backs up their mean; with M = 1 it is the textbook's model of a deterministic environment.
`visited` int64 [S + 1] lists the states in which something has been done, after their number.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import numpy as np

from rl_lab.mdp.learning.exploring import is_legal, largest
from rl_lab.mdp.learning.rules import learn_entry
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"


class Model(NamedTuple):
    """What has been learned about what follows actions."""

    outcomes: Array  # int64 [S * A, M, 2]
    payments: Array  # float64 [S * A, M]
    seen: Array  # int64 [S * A]
    visited: Array  # int64 [S + 1]


Fill = Callable[[tuple[int, ...], float], Array]  # shape, value; int64 for an int, float64 for a float


def filled(shape: tuple[int, ...], value: float) -> Array:
    """Return an array of one value; one of zeros takes no memory until it is written to."""
    dtype = np.int64 if isinstance(value, int) else np.float64
    return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)


def fresh_model(states: int, actions: int, remembered: int, fill: Fill = filled) -> Model:
    """Return a model that has seen nothing, for a table [S, A]."""
    pairs = states * actions
    return Model(
        outcomes=fill((pairs, remembered, 2), 0),
        payments=fill((pairs, remembered), 0.0),
        seen=fill((pairs,), 0),
        visited=fill((states + 1,), 0),
    )


def remember(model, num_actions, state, action, reward, terminated, next_state):
    """Take an outcome into the model; return its place among the pair's outcomes."""
    seen, visited, new = model.seen, model.visited, True
    for other in range(num_actions):
        if seen[state * num_actions + other] > 0:
            new = False
    if new:
        visited[0] += 1
        visited[visited[0]] = state
    pair = state * num_actions + action
    place = seen[pair] % model.payments.shape[1]
    model.outcomes[pair, place, 0], model.outcomes[pair, place, 1] = next_state, 1 if terminated else 0
    model.payments[pair, place] = reward
    seen[pair] += 1
    return place


def drawn_action(seen, num_actions, state, legal, untried, draw):
    """Return an action of a state that is drawn from those that were taken, or from all legal ones with `untried`."""
    count = 0
    for action in range(num_actions):
        if seen[state * num_actions + action] > 0 or (untried and is_legal(legal, state, action)):
            count += 1
    place = int(draw * count)
    for action in range(num_actions):
        if seen[state * num_actions + action] > 0 or (untried and is_legal(legal, state, action)):
            if place == 0:
                return action
            place -= 1
    return -1


def imagine(table, model, last, now, first, second, third, gamma, bonus, untried, sizes):
    """Learn from an imagined step; three draws choose a visited state, an action and one of its outcomes.

    The other arguments are those of `plan`.
    """
    actions = table.q.shape[1]
    state = model.visited[1 + int(first * model.visited[0])]
    action = drawn_action(model.seen, actions, state, table.legal, untried, second)
    pair = state * actions + action
    reward, after, terminated = 0.0, state, False
    if model.seen[pair] > 0:
        place = int(third * min(model.seen[pair], model.payments.shape[1]))
        reward, after = model.payments[pair, place], model.outcomes[pair, place, 0]
        terminated = model.outcomes[pair, place, 1] == 1
    reward += bonus * sqrt(float(now - last[pair]))
    value = 0.0 if terminated else largest(table.q, after, table.legal, after)
    error = reward + gamma * value - table.q[state, action]
    learn_entry(table.q, table.visits, state, action, error, sizes.kind, sizes.rate, sizes.power)


def plan(table, model, last, now, draws, gamma, bonus, untried, sizes):
    """Learn from K imagined steps, as Dyna-Q does; with `bonus` and `untried` as Dyna-Q+ does.

    Args:
        table: `Table`; model: `Model`; sizes: `Sizes`.
        last: int64 [S * A], the time at which each pair was last tried; 0 if it never was.
        now: the time.
        draws: uniform [K, 3]; see `imagine`.
        bonus: kappa; an imagined reward is larger by kappa times the square root of the time since the pair was tried.
        untried: imagine actions that were never taken, too: they lead back to the state, without reward.
    """
    for k in range(len(draws)):
        imagine(
            table, model, last, now, draws[k, 0], draws[k, 1], draws[k, 2], gamma, bonus, untried, sizes
        )  # fmt: skip


def update_dyna(table, model, last, now, draws, steps, gamma, bonus, untried, sizes):
    """Take the outcomes of N environments into the model, then plan with `draws` [K, 3]; see `plan`.

    Learning from the outcomes themselves is left to the caller.

    Args:
        steps: `Step` of arrays [N].
    """
    num_actions = table.q.shape[1]
    for i in range(len(steps.state)):
        state, action = steps.state[i], steps.action[i]
        remember(
            model, num_actions, state, action, steps.reward[i], steps.terminated[i], steps.next_state[i]
        )  # fmt: skip
        last[state * num_actions + action] = now
    plan(table, model, last, now, draws, gamma, bonus, untried, sizes)


# Prioritised sweeping --------------------------------------------------------------------------------


class Queue(NamedTuple):
    """The pairs whose backup is due, and which outcomes lead into each state.

    The outcomes that lead into a state are a list. An outcome's number is pair * M + place; -1 is none.
    """

    pairs: (
        Array  # int64 [S * A + 1]: their number, then a binary heap of them with the largest priority on top
    )
    priority: Array  # float64 [S * A]
    place: Array  # int64 [S * A]: where in the heap each pair stands, -1 if it doesn't
    heads: Array  # int64 [S]: the first outcome of each state's list
    links: Array  # int64 [S * A * M, 2]: the outcome before and after each one
    checked: Array  # int64 [S * A + 1]: the backups so far; for each pair the one after which its error was looked at


def fresh_queue(states: int, actions: int, remembered: int, fill: Fill = filled) -> Queue:
    """Return a queue without pairs, for a table [S, A] and a model that remembers so many outcomes of each."""
    pairs = states * actions
    return Queue(
        pairs=fill((pairs + 1,), 0),
        priority=fill((pairs,), 0.0),
        place=fill((pairs,), -1),
        heads=fill((states,), -1),
        links=fill((pairs * remembered, 2), -1),
        checked=fill((pairs + 1,), 0),
    )


def lift(queue, at):
    """Move the pair at a place of the queue up to where it belongs."""
    pairs, priority, place = queue.pairs, queue.priority, queue.place
    pair = pairs[at]
    while at > 1 and priority[pairs[at // 2]] < priority[pair]:
        pairs[at] = pairs[at // 2]
        place[pairs[at]] = at
        at //= 2
    pairs[at], place[pair] = pair, at


def sink(queue, at):
    """Move the pair at a place of the queue down to where it belongs."""
    pairs, priority, place = queue.pairs, queue.priority, queue.place
    pair, size = pairs[at], pairs[0]
    while 2 * at <= size:
        child = 2 * at
        if child < size and priority[pairs[child + 1]] > priority[pairs[child]]:
            child += 1
        if priority[pairs[child]] <= priority[pair]:
            break
        pairs[at] = pairs[child]
        place[pairs[at]] = at
        at = child
    pairs[at], place[pair] = pair, at


def push(queue, pair, value):
    """Put a pair into the queue, or raise its priority; a lower one leaves it where it is."""
    pairs, priority, place = queue.pairs, queue.priority, queue.place
    if place[pair] < 0:
        pairs[0] += 1
        pairs[pairs[0]], place[pair], priority[pair] = pair, pairs[0], value
        lift(queue, pairs[0])
    elif value > priority[pair]:
        priority[pair] = value
        lift(queue, place[pair])


def pop(queue):
    """Take the pair of the largest priority out of the queue and return it."""
    pairs, place = queue.pairs, queue.place
    top, last = pairs[1], pairs[pairs[0]]
    pairs[0] -= 1
    place[top] = -1
    if last != top:
        pairs[1], place[last] = last, 1
        sink(queue, 1)
    return top


def link(queue, outcome, state):
    """Put an outcome into the list of those that lead into a state."""
    heads, links = queue.heads, queue.links
    links[outcome, 0], links[outcome, 1] = -1, heads[state]
    if heads[state] >= 0:
        links[heads[state], 0] = outcome
    heads[state] = outcome


def unlink(queue, outcome, state):
    """Take an outcome out of the list of those that lead into a state."""
    heads, links = queue.heads, queue.links
    before, after = links[outcome, 0], links[outcome, 1]
    if before >= 0:
        links[before, 1] = after
    else:
        heads[state] = after
    if after >= 0:
        links[after, 0] = before


def mean_error(table, model, pair, gamma):
    """Return the error of a pair: the mean target of its remembered outcomes, less its value."""
    q, count = table.q, min(model.seen[pair], model.payments.shape[1])
    total = 0.0
    for k in range(count):
        after = model.outcomes[pair, k, 0]
        value = 0.0 if model.outcomes[pair, k, 1] == 1 else largest(q, after, table.legal, after)
        total += model.payments[pair, k] + gamma * value
    return total / count - q[pair // q.shape[1], pair % q.shape[1]]


def take_in(table, model, queue, threshold, state, action, reward, terminated, next_state, gamma):
    """Take an outcome into the model; queue its pair if it shows an error above `threshold`; return that |error|."""
    pair, remembered = state * table.q.shape[1] + action, model.payments.shape[1]
    outcome = pair * remembered + model.seen[pair] % remembered
    if model.seen[pair] >= remembered:
        unlink(queue, outcome, model.outcomes[pair, model.seen[pair] % remembered, 0])
    remember(model, table.q.shape[1], state, action, reward, terminated, next_state)
    link(queue, outcome, next_state)
    error = abs(mean_error(table, model, pair, gamma))
    if error > threshold:
        push(queue, pair, error)
    return error


def sweep(table, model, queue, backups, threshold, gamma, sizes):
    """Back up at most `backups` pairs of the queue, the largest error first, and queue what leads to them.

    Returns:
        How many were backed up.
    """
    actions, done, checked = table.q.shape[1], 0, queue.checked
    while done < backups and queue.pairs[0] > 0:
        pair = pop(queue)
        state = pair // actions
        error = mean_error(table, model, pair, gamma)
        learn_entry(
            table.q, table.visits, state, pair % actions, error, sizes.kind, sizes.rate, sizes.power
        )  # fmt: skip
        done += 1
        checked[0] += 1
        outcome = queue.heads[state]
        while outcome >= 0:
            source = outcome // model.payments.shape[1]
            if checked[1 + source] != checked[0]:  # several of its outcomes may lead here
                checked[1 + source] = checked[0]
                size = abs(mean_error(table, model, source, gamma))
                if size > threshold:
                    push(queue, source, size)
            outcome = queue.links[outcome, 1]
    return done


def update_sweeping(table, model, queue, backups, threshold, steps, gamma, sizes):
    """Take the outcomes of N environments into the model and back up at most `backups` pairs.

    Args:
        table: `Table`; model: `Model`; queue: `Queue`; sizes: `Sizes`.
        threshold: smallest error that is worth a backup, in units of reward.
        steps: `Step` of arrays [N].

    Returns:
        How many pairs were backed up, and the sum of the |errors| that the outcomes showed.
    """
    total = 0.0
    for i in range(len(steps.state)):
        total += take_in(
            table, model, queue, threshold, steps.state[i], steps.action[i], steps.reward[i],
            steps.terminated[i], steps.next_state[i], gamma,
        )  # fmt: skip
    return sweep(table, model, queue, backups, threshold, gamma, sizes), total

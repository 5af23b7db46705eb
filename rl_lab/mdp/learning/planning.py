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

from math import sqrt

from rl_lab.mdp.learning.exploring import is_legal, largest
from rl_lab.mdp.learning.rules import learn_entry

# mypy: disable-error-code="no-untyped-def"


def remember(outcomes, payments, seen, visited, num_actions, state, action, reward, terminated, next_state):
    """Take an outcome into the model; return its place among the pair's outcomes."""
    new = True
    for other in range(num_actions):
        if seen[state * num_actions + other] > 0:
            new = False
    if new:
        visited[0] += 1
        visited[visited[0]] = state
    pair = state * num_actions + action
    place = seen[pair] % payments.shape[1]
    outcomes[pair, place, 0], outcomes[pair, place, 1] = next_state, 1 if terminated else 0
    payments[pair, place] = reward
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


def plan(
    q, visits, outcomes, payments, seen, visited, last, now, draws,
    gamma, bonus, untried, size_kind, rate, power, legal,
):  # fmt: skip
    """Learn from K imagined steps, as Dyna-Q does; with `bonus` and `untried` as Dyna-Q+ does.

    Args:
        last: int64 [S * A], the time at which each pair was last tried; 0 if it never was.
        now: the time.
        draws: uniform [K, 3]: they choose a visited state, an action and one of its outcomes.
        bonus: kappa; an imagined reward is larger by kappa times the square root of the time since the pair was tried.
        untried: imagine actions that were never taken, too: they lead back to the state, without reward.
        legal: bool [S, A] or [0, 0].
    """
    actions = q.shape[1]
    for k in range(len(draws)):
        state = visited[1 + int(draws[k, 0] * visited[0])]
        action = drawn_action(seen, actions, state, legal, untried, draws[k, 1])
        pair = state * actions + action
        reward, after, terminated = 0.0, state, False
        if seen[pair] > 0:
            place = int(draws[k, 2] * min(seen[pair], payments.shape[1]))
            reward, after = payments[pair, place], outcomes[pair, place, 0]
            terminated = outcomes[pair, place, 1] == 1
        reward += bonus * sqrt(float(now - last[pair]))
        value = 0.0 if terminated else largest(q, after, legal, after)
        learn_entry(
            q, visits, state, action, reward + gamma * value - q[state, action], size_kind, rate, power
        )


def update_dyna(
    q, visits, outcomes, payments, seen, visited, last, now, draws,
    state, action, reward, terminated, next_state,
    gamma, bonus, untried, size_kind, rate, power, legal,
):  # fmt: skip
    """Take the outcomes [N] of N environments into the model, then plan with `draws` [K, 3]; see `plan`.

    Learning from the outcomes themselves is left to the caller.
    """
    for i in range(len(state)):
        remember(
            outcomes, payments, seen, visited, q.shape[1],
            state[i], action[i], reward[i], terminated[i], next_state[i],
        )  # fmt: skip
        last[state[i] * q.shape[1] + action[i]] = now
    plan(
        q, visits, outcomes, payments, seen, visited, last, now, draws,
        gamma, bonus, untried, size_kind, rate, power, legal,
    )  # fmt: skip


# Prioritised sweeping --------------------------------------------------------------------------------
#
# `queue` int64 [S * A + 1] is a binary heap of pairs, after their number, with the largest `priority` float64 [S * A]
# on top; `place` int64 [S * A] tells where each stands, -1 if it doesn't.
# The outcomes that lead into a state are a list: its first is `heads` int64 [S]; `links` int64 [S * A * M, 2] holds the
# outcome before and after each one. An outcome's number is pair * M + place; -1 is none. `checked` int64 [S * A + 1]
# holds the number of backups so far, and for each pair the one after which its error was last looked at.


def lift(queue, priority, place, at):
    """Move the pair at a place of the queue up to where it belongs."""
    pair = queue[at]
    while at > 1 and priority[queue[at // 2]] < priority[pair]:
        queue[at] = queue[at // 2]
        place[queue[at]] = at
        at //= 2
    queue[at], place[pair] = pair, at


def sink(queue, priority, place, at):
    """Move the pair at a place of the queue down to where it belongs."""
    pair, size = queue[at], queue[0]
    while 2 * at <= size:
        child = 2 * at
        if child < size and priority[queue[child + 1]] > priority[queue[child]]:
            child += 1
        if priority[queue[child]] <= priority[pair]:
            break
        queue[at] = queue[child]
        place[queue[at]] = at
        at = child
    queue[at], place[pair] = pair, at


def push(queue, priority, place, pair, value):
    """Put a pair into the queue, or raise its priority; a lower one leaves it where it is."""
    if place[pair] < 0:
        queue[0] += 1
        queue[queue[0]], place[pair], priority[pair] = pair, queue[0], value
        lift(queue, priority, place, queue[0])
    elif value > priority[pair]:
        priority[pair] = value
        lift(queue, priority, place, place[pair])


def pop(queue, priority, place):
    """Take the pair of the largest priority out of the queue and return it."""
    top, last = queue[1], queue[queue[0]]
    queue[0] -= 1
    place[top] = -1
    if last != top:
        queue[1], place[last] = last, 1
        sink(queue, priority, place, 1)
    return top


def link(heads, links, outcome, state):
    """Put an outcome into the list of those that lead into a state."""
    links[outcome, 0], links[outcome, 1] = -1, heads[state]
    if heads[state] >= 0:
        links[heads[state], 0] = outcome
    heads[state] = outcome


def unlink(heads, links, outcome, state):
    """Take an outcome out of the list of those that lead into a state."""
    before, after = links[outcome, 0], links[outcome, 1]
    if before >= 0:
        links[before, 1] = after
    else:
        heads[state] = after
    if after >= 0:
        links[after, 0] = before


def mean_error(q, outcomes, payments, seen, pair, gamma, legal):
    """Return the error of a pair: the mean target of its remembered outcomes, less its value."""
    count = min(seen[pair], payments.shape[1])
    total = 0.0
    for k in range(count):
        after = outcomes[pair, k, 0]
        value = 0.0 if outcomes[pair, k, 1] == 1 else largest(q, after, legal, after)
        total += payments[pair, k] + gamma * value
    return total / count - q[pair // q.shape[1], pair % q.shape[1]]


def sweep(
    q, visits, outcomes, payments, seen, queue, priority, place, heads, links, checked, backups, threshold,
    gamma, size_kind, rate, power, legal,
):  # fmt: skip
    """Back up at most `backups` pairs of the queue, the largest error first, and queue what leads to them.

    Returns:
        How many were backed up.
    """
    actions, done = q.shape[1], 0
    while done < backups and queue[0] > 0:
        pair = pop(queue, priority, place)
        state = pair // actions
        error = mean_error(q, outcomes, payments, seen, pair, gamma, legal)
        learn_entry(q, visits, state, pair % actions, error, size_kind, rate, power)
        done += 1
        checked[0] += 1
        outcome = heads[state]
        while outcome >= 0:
            source = outcome // payments.shape[1]
            if checked[1 + source] != checked[0]:  # several of its outcomes may lead here
                checked[1 + source] = checked[0]
                size = abs(mean_error(q, outcomes, payments, seen, source, gamma, legal))
                if size > threshold:
                    push(queue, priority, place, source, size)
            outcome = links[outcome, 1]
    return done


def update_sweeping(
    q, visits, outcomes, payments, seen, visited, queue, priority, place, heads, links, checked,
    backups, threshold, state, action, reward, terminated, next_state,
    gamma, size_kind, rate, power, legal,
):  # fmt: skip
    """Take the outcomes [N] of N environments into the model and back up at most `backups` pairs.

    Args:
        threshold: smallest error that is worth a backup, in units of reward.

    Returns:
        How many pairs were backed up, and the sum of the |errors| that the outcomes showed.
    """
    total = 0.0
    for i in range(len(state)):
        pair = state[i] * q.shape[1] + action[i]
        slot = seen[pair] % payments.shape[1]
        if seen[pair] >= payments.shape[1]:
            unlink(heads, links, pair * payments.shape[1] + slot, outcomes[pair, slot, 0])
        remember(
            outcomes, payments, seen, visited, q.shape[1],
            state[i], action[i], reward[i], terminated[i], next_state[i],
        )  # fmt: skip
        link(heads, links, pair * payments.shape[1] + slot, next_state[i])
        error = abs(mean_error(q, outcomes, payments, seen, pair, gamma, legal))
        total += error
        if error > threshold:
            push(queue, priority, place, pair, error)
    done = sweep(
        q, visits, outcomes, payments, seen, queue, priority, place, heads, links, checked, backups, threshold,
        gamma, size_kind, rate, power, legal,
    )  # fmt: skip
    return done, total

"""How a table of action values chooses actions, from draws that are handed in.

`q` is float64 [S, A]. Legal actions are row `row` of `legal`, bool [L, A]: L states of a model, or L environments; with
L = 0 all actions are legal. `tried`, int64 [S, A], counts how often each action has been chosen. Draws are uniform in
[0, 1).

The behaviours are epsilon-greedy, Boltzmann's distribution (Sutton & Barto, 2018, "Reinforcement Learning: An
Introduction", section 2.8, with action values as preferences) and, in each state, upper confidence bounds (Auer,
Cesa-Bianchi & Fischer, 2002, "Finite-time Analysis of the Multiarmed Bandit Problem",
https://doi.org/10.1023/A:1013689704352).
"""

from __future__ import annotations

from math import exp, log, sqrt

# mypy: disable-error-code="no-untyped-def"

EPSILON_GREEDY = 0  # parameter: the probability of a random action
BOLTZMANN = 1  # parameter: the temperature, in units of reward
UCB = 2  # parameter: the width of the bounds, in units of reward

INFINITE = float("inf")


def is_legal(legal, row, action):
    """Return whether an action is legal."""
    return legal.shape[0] == 0 or legal[row, action]


def largest(q, state, legal, row):
    """Return the largest value of a state's legal actions."""
    best, all_legal = -INFINITE, legal.shape[0] == 0
    for action in range(q.shape[1]):
        value = q[state, action]
        if value > best and (all_legal or legal[row, action]):
            best = value
    return best


def first_best(q, state, legal, row):
    """Return the first of the best legal actions."""
    best, chosen = -INFINITE, -1
    for action in range(q.shape[1]):
        if is_legal(legal, row, action) and (chosen < 0 or q[state, action] > best):
            best, chosen = q[state, action], action
    return chosen


def score(kind, parameter, q, state, tried, total, action):
    """Return what the greedy choice of a behaviour compares: the value, with UCB its upper bound.

    Args:
        total: how often any of the legal actions has been chosen in this state.
    """
    if kind != UCB:
        return q[state, action]
    if tried[state, action] == 0:
        return INFINITE
    return q[state, action] + parameter * sqrt(log(float(total)) / float(tried[state, action]))


def times_tried(kind, q, state, tried, legal, row):
    """Return how often any of the legal actions has been chosen in a state; 0 where only UCB would ask."""
    total = 0
    if kind == UCB:
        for action in range(q.shape[1]):
            if is_legal(legal, row, action):
                total += tried[state, action]
    return total


def random_best(kind, parameter, q, state, tried, legal, row, draw):
    """Return a legal action of the largest score; among equals the draw decides."""
    total = times_tried(kind, q, state, tried, legal, row)
    best, ties = -INFINITE, 0
    for action in range(q.shape[1]):
        if is_legal(legal, row, action):
            value = score(kind, parameter, q, state, tried, total, action)
            if ties == 0 or value > best:
                best, ties = value, 1
            elif value == best:
                ties += 1
    place = int(draw * ties)
    for action in range(q.shape[1]):
        if is_legal(legal, row, action) and score(kind, parameter, q, state, tried, total, action) == best:
            if place == 0:
                return action
            place -= 1
    return -1


def random_legal(num_actions, legal, row, draw):
    """Return a legal action; all are equally likely."""
    if legal.shape[0] == 0:
        return int(draw * num_actions)
    count = 0
    for action in range(num_actions):
        if legal[row, action]:
            count += 1
    place = int(draw * count)
    for action in range(num_actions):
        if legal[row, action]:
            if place == 0:
                return action
            place -= 1
    return -1


def softmax_sum(temperature, q, state, legal, row, best):
    """Return the sum of exp((q - best) / temperature) over the legal actions."""
    total = 0.0
    for action in range(q.shape[1]):
        if is_legal(legal, row, action):
            total += exp((q[state, action] - best) / temperature)
    return total


def boltzmann(temperature, q, state, legal, row, draw):
    """Return a legal action with probability proportional to exp(q / temperature)."""
    best = largest(q, state, legal, row)
    left = draw * softmax_sum(temperature, q, state, legal, row, best)
    last = -1
    for action in range(q.shape[1]):
        if is_legal(legal, row, action):
            weight = exp((q[state, action] - best) / temperature)
            if left < weight:
                return action
            left -= weight
            if weight > 0.0:
                last = action
    return last  # only rounding leads here


def choose(kind, parameter, q, state, tried, legal, row, first_draw, second_draw):
    """Return the action that a behaviour chooses, from two draws.

    Args:
        kind: EPSILON_GREEDY, BOLTZMANN or UCB.
        parameter: epsilon, the temperature, or the width.
        first_draw: decides whether to explore; with BOLTZMANN it decides everything.
        second_draw: decides among random or equally good actions.
    """
    if kind == BOLTZMANN:
        return boltzmann(parameter, q, state, legal, row, first_draw)
    if kind == EPSILON_GREEDY and first_draw < parameter:
        return random_legal(q.shape[1], legal, row, second_draw)
    return random_best(kind, parameter, q, state, tried, legal, row, second_draw)


def probability(kind, parameter, q, state, tried, legal, row, action):
    """Return the probability with which `choose` gives an action."""
    if not is_legal(legal, row, action):
        return 0.0
    if kind == BOLTZMANN:
        best = largest(q, state, legal, row)
        weight = exp((q[state, action] - best) / parameter)
        return weight / softmax_sum(parameter, q, state, legal, row, best)
    total = times_tried(kind, q, state, tried, legal, row)
    own = score(kind, parameter, q, state, tried, total, action)
    count, ties, is_best = 0, 0, True
    for other in range(q.shape[1]):
        if is_legal(legal, row, other):
            count += 1
            value = score(kind, parameter, q, state, tried, total, other)
            if value > own:
                is_best = False
            elif value == own:
                ties += 1
    greedy = 1.0 / ties if is_best else 0.0
    if kind == UCB:
        return greedy
    return parameter / count + (1.0 - parameter) * greedy


def expected_value(kind, parameter, q, state, tried, legal, row):
    """Return the mean value of a state's actions under a behaviour."""
    if kind == EPSILON_GREEDY:
        total, count = 0.0, 0
        for action in range(q.shape[1]):
            if is_legal(legal, row, action):
                total += q[state, action]
                count += 1
        return parameter * (total / count) + (1.0 - parameter) * largest(q, state, legal, row)
    mean = 0.0
    for action in range(q.shape[1]):
        if is_legal(legal, row, action):
            share = probability(kind, parameter, q, state, tried, legal, row, action)
            mean += share * q[state, action]
    return mean


def choose_all(kind, parameter, q, state, tried, legal, draws, action):
    """Write the action that a behaviour chooses for each of N environments into `action`, int64 [N].

    Args:
        state: int64 [N].
        legal: bool [N, A], or [0, 0].
        draws: uniform [N, 2]; see `choose`.
    """
    for i in range(len(state)):
        action[i] = choose(kind, parameter, q, state[i], tried, legal, i, draws[i, 0], draws[i, 1])

"""Planning with a learned model, against the textbook's loops."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.mdp.learning import planning
from rl_lab.mdp.learning.records import Sizes, Step, Table
from rl_lab.mdp.learning.step_sizes import BY_TIME
from tables import ALL_LEGAL

S, A, GAMMA, RATE = 5, 3, 0.9, 0.4
NO, KAPPA = 0, 0.05


class Planner:
    """A table, and a learned model that remembers M outcomes."""

    def __init__(self, remembered: int):
        self.table = Table(
            np.zeros((S, A)), np.zeros((S, A), np.int64), np.zeros((S, A), np.int64), ALL_LEGAL
        )
        self.model, self.queue = (
            planning.fresh_model(S, A, remembered),
            planning.fresh_queue(S, A, remembered),
        )
        self.q, self.last = self.table.q, np.zeros(S * A, np.int64)

    def dyna(self, now, draws, step, bonus=0.0, untried=False):
        planning.update_dyna(
            self.table, self.model, self.last, now, draws, one(step), GAMMA, bonus, untried, Sizes(BY_TIME, RATE, 0.0)
        )  # fmt: skip

    def sweep(self, step, backups, threshold=1e-6, rate=1.0):
        return planning.update_sweeping(
            self.table, self.model, self.queue, backups, threshold, one(step), GAMMA, Sizes(BY_TIME, rate, 0.0)
        )  # fmt: skip


def one(step):
    """Return a step (state, action, reward, terminated, next state) as that of one environment."""
    state, action, reward, over, after = (np.array([x]) for x in step)
    return Step(state, action, reward, over, np.array([False]), after, np.array([False]))


def drawn_steps(rng, count):
    """Return steps (state, action, reward, terminated, next state) at random."""
    states, actions = rng.integers(S, size=(count, 2)).tolist(), rng.integers(A, size=count).tolist()
    over = (rng.random(count) < 0.2).tolist()
    return [
        (s, a, float(rng.normal()), end, after)
        for (s, after), a, end in zip(states, actions, over, strict=True)
    ]


@pytest.mark.parametrize(("bonus", "untried"), [(0.0, False), (KAPPA, True)])
@pytest.mark.parametrize("remembered", [1, 3])
def test_imagined_steps_are_learned_as_in_the_textbook(remembered, bonus, untried):
    rng = np.random.default_rng(remembered)
    model, q, known, states, last = Planner(remembered), np.zeros((S, A)), {}, [], {}
    for now, step in enumerate(drawn_steps(rng, 40), start=1):
        draws = rng.random((4, 3))
        model.dyna(now, draws, step, bonus, untried)
        s, a, r, over, after = step
        states += [s] * (s not in states)
        memory = known.setdefault((s, a), [])
        memory += [(r, over, after)]
        if len(memory) > remembered:  # as a ring: the newest takes the place of the oldest
            memory[(model.model.seen[s * A + a] - 1) % remembered] = memory.pop()
        last[s, a] = now
        for first, second, third in draws:
            s = states[int(first * len(states))]
            actions = [b for b in range(A) if untried or (s, b) in known]
            a = actions[int(second * len(actions))]
            memory = known.get((s, a), [(0.0, False, s)])
            r, over, after = memory[int(third * len(memory))]
            r += bonus * (now - last.get((s, a), 0)) ** 0.5
            q[s, a] += RATE * (r + GAMMA * (0 if over else q[after].max()) - q[s, a])
    np.testing.assert_allclose(model.q, q, rtol=1e-12)


@pytest.mark.parametrize("remembered", [1, 3])
def test_sweeping_without_end_solves_the_remembered_model(remembered):
    rng = np.random.default_rng(remembered)
    model, known = Planner(remembered), {}
    for s, a, r, over, after in drawn_steps(rng, 40):
        model.sweep((s, a, r, over, after), backups=1_000, threshold=1e-9)
        known.setdefault((s, a), []).append((r, over, after))
    q = np.zeros((S, A))
    for _ in range(250):
        for (s, a), memory in known.items():
            targets = [r + GAMMA * (not over) * q[after].max() for r, over, after in memory[-remembered:]]
            q[s, a] = np.mean(targets)
    np.testing.assert_allclose(model.q, q, atol=1e-7)
    assert model.queue.pairs[0] == 0


def test_the_pair_with_the_largest_error_is_backed_up_first_and_its_predecessors_follow():
    model = Planner(1)
    assert model.sweep((0, 0, 0.0, False, 1), backups=9) == (0, 0.0)  # nothing to learn
    assert model.sweep((3, 0, 2.0, True, 4), backups=0) == (0, 2.0)
    assert model.sweep((1, 0, 5.0, True, 4), backups=1) == (1, 5.0)
    assert model.q[:, 0].tolist() == [0.0, 5.0, 0.0, 0.0, 0.0]  # the larger error
    assert model.sweep((2, 0, 0.0, True, 4), backups=1) == (1, 0.0)
    assert model.q[:, 0].tolist() == [4.5, 5.0, 0.0, 0.0, 0.0]  # 0.9 * 5 is more than 2
    assert model.sweep((2, 0, 0.0, True, 4), backups=9) == (1, 0.0)
    assert model.q[:, 0].tolist() == [4.5, 5.0, 0.0, 2.0, 0.0]


def test_errors_up_to_the_threshold_are_left_alone():
    model = Planner(1)
    assert model.sweep((1, 0, 0.5, True, 4), backups=9, threshold=0.5) == (0, 0.5)
    assert model.sweep((1, 0, 0.6, True, 4), backups=9, threshold=0.5) == (1, 0.6)


def test_the_queue_gives_pairs_by_priority_and_only_raises_them():
    rng = np.random.default_rng(0)
    queue, largest = planning.fresh_queue(S, A, 1), {}
    for _ in range(60):
        pair, value = int(rng.integers(S * A)), float(rng.random())
        planning.push(queue, pair, value)
        largest[pair] = max(value, largest.get(pair, 0.0))
    order = [int(planning.pop(queue)) for _ in range(int(queue.pairs[0]))]
    assert order == sorted(largest, key=lambda pair: -largest[pair])
    assert (queue.place == -1).all()

"""What is due when, against counting by hand."""

from __future__ import annotations

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.moments import FIRST_LOOK, Due, Moments

NOTHING = Due(evaluation=False, checkpoint=False)


def found(moments, steps):
    """(env_steps, row, evaluation, checkpoint) wherever anything is due, asked at `steps`."""
    out = []
    for env_steps in steps:
        if env_steps >= moments.next:
            row = moments.row_due(env_steps)
            due = moments.advance(env_steps)
            if row or due != NOTHING:
                out.append((env_steps, row, due.evaluation, due.checkpoint, *([True] if due.film else [])))
    return out


def test_each_period_has_its_own_moments():
    assert found(Moments(2, 3, 4), range(1, 9)) == [
        (2, True, False, False),
        (3, False, True, False),
        (4, True, False, True),
        (6, True, True, False),
        (8, True, False, True),
    ]


@pytest.mark.parametrize("num_envs", [1, 3, 4, 7])
def test_several_environments_miss_no_multiple(num_envs):
    steps = range(num_envs, 200, num_envs)
    rows = [at for at, row, _, _ in found(Moments(10, 1000, 1000), steps) if row]
    assert rows == [min(s for s in steps if s >= k) for k in range(10, steps[-1] + 1, 10)]


def test_films_have_a_period_of_their_own_where_they_are_asked_for():
    assert found(Moments(100, 100, 100, 3), range(1, 8)) == [
        (3, False, False, False, True),
        (6, False, False, False, True),
    ]
    assert found(Moments(100, 100, 100), range(1, 99)) == []


def test_a_long_step_makes_a_thing_due_once():
    assert found(Moments(10, 15, 100), [35, 36]) == [(35, True, True, False)]


def test_nothing_has_to_be_asked_before_the_next_moment():
    moments = Moments(10, 25, 100)
    assert moments.next == 0  # the first step looks
    moments.advance(4)
    assert moments.next == 10
    moments.advance(21)
    assert moments.next == 25
    moments.advance(25)
    assert moments.next == 30


@pytest.mark.parametrize(
    ("env_steps", "after"), [(0, 2), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (8, 9), (9, 10), (10, 12)]
)
def test_the_step_at_which_something_is_due_next_is_known_from_the_step_alone(env_steps, after):
    assert Moments(2, 3, 100, film_period=5).after(env_steps) == after


def test_resumed_ones_go_on_from_where_they_were():
    moments = Moments(10, 25, 100)
    moments.at = 24
    assert moments.next == 0
    assert found(moments, [25, 26]) == [(25, False, True, False)]


def test_periods_are_those_of_the_config():
    config = RunConfig("E", total_steps=1000, log_every_steps=7, eval_every_steps=11)
    assert [at for at, *_ in found(Moments.of(config), range(1, 15))] == [7, 11, 14]
    assert found(Moments.of(config), [199, 200])[-1] == (200, False, False, True)  # a fifth of the budget


class TestWritingAhead:
    """It follows no period of the config: each time, it is said when the next one is due."""

    def test_is_first_due_after_a_few_steps_then_as_it_was_said(self):
        moments, due = Moments(10_000, 10_000, 10_000), []
        for env_steps in range(1, 1_000):
            if env_steps >= moments.next and moments.advance(env_steps).writing_ahead:
                due.append(env_steps)
                moments.write_ahead_in(300 if len(due) == 1 else 40)
        assert due == [FIRST_LOOK, FIRST_LOOK + 300, *range(FIRST_LOOK + 340, 1_000, 40)]

    def test_is_put_off_by_as_much_again_where_a_checkpoint_is_due_too(self):
        moments = Moments(10_000, 10_000, FIRST_LOOK)
        moments.advance(FIRST_LOOK - 1)
        assert moments.next == FIRST_LOOK
        assert moments.advance(FIRST_LOOK) == Due(evaluation=False, checkpoint=True, writing_ahead=True)
        assert not moments.advance(2 * FIRST_LOOK - 1).writing_ahead
        assert moments.advance(2 * FIRST_LOOK).writing_ahead

    def test_changes_nothing_of_what_else_is_due(self):
        quick, slow = Moments(7, 11, 13), Moments(7, 11, 13)
        quick.write_ahead_in(1)
        for env_steps in range(1, 100):
            assert quick.row_due(env_steps) == slow.row_due(env_steps)
            ours, theirs = quick.advance(env_steps), slow.advance(env_steps)
            assert ours._replace(writing_ahead=False) == theirs._replace(writing_ahead=False)
            assert quick.after(env_steps) == slow.after(env_steps)

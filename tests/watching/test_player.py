"""How often a player hands out views: by a clock of the tests' own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rl_lab.types import UsageError
from rl_lab.watching import player as module
from rl_lab.watching.player import Player
from rl_lab.watching.session import FRAMES_PER_SECOND


@pytest.fixture
def shown_at(monkeypatch):
    """Let a player be asked for a view at given seconds; returns those at which it hands one out."""

    def ask(times, rate=FRAMES_PER_SECOND):
        clock, seen = SimpleNamespace(now=0.0), []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
        session = SimpleNamespace(is_over=False, view=lambda: clock.now, frames_per_second=rate)
        player = Player(session, seen.append)
        for clock.now in times:
            player._show_in_time()
        return seen

    return ask


@pytest.mark.parametrize("seed", range(5))
def test_at_sixty_steps_a_second_none_is_left_out_however_late_single_ones_come(shown_at, seed):
    late = np.random.default_rng(seed).uniform(0, 0.5 / FRAMES_PER_SECOND, 600)
    times = 100 + np.arange(600) / FRAMES_PER_SECOND + late
    assert shown_at(times.tolist()) == times.tolist()


@pytest.mark.parametrize("rate", [10.0, FRAMES_PER_SECOND])
def test_at_more_steps_no_more_are_shown_a_second_than_may_be(shown_at, rate):
    seen = shown_at((100 + np.arange(1200) / 240).tolist(), rate)
    assert 0.9 * rate * 5 <= len(seen) <= 1.06 * rate * 5 + 2


def test_after_a_pause_no_burst_follows(shown_at):
    seen = shown_at([100.0, *(200 + np.arange(50) / 1000)])
    assert len(seen) <= 1 + 2 + 3  # 50 ms hold three views, and one is made up for


def test_while_nobody_looks_nothing_is_played_and_nothing_is_looked_after():
    played, idle, looks = [], [], [False]
    session = SimpleNamespace(
        playing=True, is_over=False, frames_per_second=60.0, seconds_to_next=0.0,
        view=lambda: len(played), advance=lambda: bool(played.append(1)) or True,
    )  # fmt: skip
    player = Player(
        session,
        lambda view: None,
        idle=lambda session: bool(idle.append(1)),
        is_seen=lambda: looks[0],
    )
    player._wait = lambda: 1e-4
    for _ in range(3):
        player._turn()
    assert (played, idle) == ([], [])
    looks[0] = True
    for _ in range(3):
        player._turn()
    assert (len(played), len(idle)) == (3, 3)


def test_a_session_that_can_not_go_on_is_paused_and_the_page_is_told():
    def advance():
        raise UsageError("its actions aren't there yet")

    session = SimpleNamespace(playing=True, is_over=True, frames_per_second=60.0, seconds_to_next=0.0)
    session.advance, session.view = advance, lambda: "the view"
    session.pause = lambda: setattr(session, "playing", False)
    said, seen = [], []
    player = Player(session, seen.append, on_refusal=said.append)
    player._wait = lambda: 1e-4
    for _ in range(3):
        player._turn()
    assert said == [{"type": "error", "text": "its actions aren't there yet"}]
    assert seen == ["the view"]

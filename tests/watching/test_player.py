"""How often a player hands out views: by a clock of the tests' own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rl_lab.watching import player as module
from rl_lab.watching.player import FRAMES_PER_SECOND, Player


@pytest.fixture
def shown_at(monkeypatch):
    """Let a player be asked for a view at given seconds; returns those at which it hands one out."""

    def ask(times):
        clock, seen = SimpleNamespace(now=0.0), []
        monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
        session = SimpleNamespace(is_over=False, view=lambda: clock.now)
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


def test_at_more_steps_no_more_than_sixty_are_shown_a_second(shown_at):
    seen = shown_at((100 + np.arange(1200) / 240).tolist())
    assert 0.9 * 60 * 5 <= len(seen) <= 1.06 * 60 * 5


def test_after_a_pause_no_burst_follows(shown_at):
    seen = shown_at([100.0, *(200 + np.arange(50) / 1000)])
    assert len(seen) <= 1 + 2 + 3  # 50 ms hold three views, and one is made up for

"""Training episodes whose actions a run that trains hasn't written yet: the open episode stays, the server goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from websockets.sync.client import connect

from rl_lab.types import UsageError
from rl_lab.watching.past import PastEpisode
from rl_lab.watching.session import Pick
from watched_games import balancing, served, session_of

UNWRITTEN = "its actions aren't there yet"


def actions_of(episode):
    """Return the actions of row 0; those of later rows aren't there yet."""
    if episode.row:
        raise UsageError(UNWRITTEN)
    return [np.array(k % 2) for k in range(episode.length)]


def pick(*rows) -> Pick:
    """Pick training episodes of two steps."""
    return Pick([PastEpisode(row, 0, row, 11, 2.0, 2, False, True, 100) for row in rows], actions_of)


def test_what_a_human_plays_goes_on_if_a_pick_is_refused():
    session = session_of(balancing())
    session.take_over()
    session.press(1)
    session.advance()
    with pytest.raises(UsageError, match=UNWRITTEN):
        session.show_past(pick(1))
    assert (session.human, session.past, session.position) == (0, None, 1)
    assert len(session.all_played()) == 1
    session.close()


def test_an_episode_stays_if_the_next_of_a_pick_is_refused():
    session = session_of(balancing())
    session.show_past(pick(0, 1))
    while not session.is_over:
        session.advance()
    for _ in range(2):
        with pytest.raises(UsageError, match=UNWRITTEN):
            session.advance()
    figures = session.view().figures
    assert (figures["past"]["row"], figures["position"], figures["over"]) == (0, 2, True)
    session.close()


def test_the_page_is_told_and_the_server_goes_on():
    session = session_of(balancing())
    session.show_past(pick(0, 1))
    while not session.is_over:
        session.advance()
    session.play()
    with served(session) as (page, port):
        with connect(f"ws://127.0.0.1:{port}/live", proxy=None) as socket:
            texts = (
                json.loads(data)
                for data in iter(lambda: socket.recv(timeout=60), None)
                if isinstance(data, str)
            )
            assert next(m for m in texts if m["type"] == "error")["text"] == UNWRITTEN
            socket.send('{"type": "restart", "seed": 3}')
            socket.send('{"type": "seek", "step": 99}')
            assert "step 99" in next(m for m in texts if m["type"] == "error")["text"]
        assert page.error is None
    assert page.errors == []

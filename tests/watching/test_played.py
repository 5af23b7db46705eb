"""What a human played, as a dataset: what was seen and done, and a refusal where it doesn't go the same way again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_lab.datasets.dataset import Dataset
from rl_lab.types import UsageError
from rl_lab.watching.played import save_played
from watched_games import balancing, make_cartpole, session_of


def session_played():
    """A session in which a human took the first two steps, and the agent the third."""
    session = session_of(balancing())
    session.take_over()
    for action in (1, 0):
        session.press(action)
        session.advance()
    session.hand_back()
    session.advance()
    return session


def test_a_dataset_holds_the_episodes_in_which_a_human_had_a_part(tmp_path):
    session = session_played()
    session.next_episode()
    session.advance()  # the agent's alone
    played = session.all_played()
    session.close()
    assert save_played(played, make_cartpole, tmp_path / "d") == {"episodes": 1, "steps": 3, "human_steps": 2}
    episode = Dataset(tmp_path / "d").episode(0)
    assert episode.actions.tolist() == [int(a) for a in played[0].actions]
    assert episode.actions[:2].tolist() == [1, 0]
    env = make_cartpole()
    obs, _ = env.reset(seed=played[0].seed)
    assert (episode.observations[0] == obs).all()
    for t, action in enumerate(episode.actions):
        assert (episode.observations[t + 1] == env.step(np.int64(action))[0]).all()
    env.close()
    assert not episode.terminations.any()


def test_an_episode_that_goes_another_way_is_refused_and_nothing_is_written(tmp_path):
    session = session_played()
    played = session.all_played()
    session.close()
    with pytest.raises(UsageError, match="isn't deterministic"):
        save_played([replace(played[0], returned=2.0)], make_cartpole, tmp_path / "d")
    assert not (tmp_path / "d").exists()
    with pytest.raises(UsageError, match="nobody has played yet"):
        save_played([], make_cartpole, tmp_path / "d")

"""Means over the episodes since the last row."""

from __future__ import annotations

import json

import numpy as np

from rl_lab.environments.episodes import Episode
from rl_lab.runs.episode_statistics import EpisodeStatistics


def episode(return_: float, length: int) -> Episode:
    return Episode(0, 0, 0, 0, return_, length, True, False, np.zeros(length, np.int64))


def test_a_row_without_an_episode_has_only_the_count():
    assert EpisodeStatistics().take() == {"episodes": 0}


def test_means_begin_anew_with_each_row_and_the_count_goes_on():
    statistics = EpisodeStatistics()
    for return_, length in ((1.0, 2), (4.0, 5)):
        statistics.add(episode(return_, length))
    assert statistics.take() == {"episode_return_mean": 2.5, "episode_length_mean": 3.5, "episodes": 2}
    assert statistics.take() == {"episodes": 2}
    statistics.add(episode(-1.0, 1))
    assert statistics.take() == {"episode_return_mean": -1.0, "episode_length_mean": 1.0, "episodes": 3}


def test_restored_ones_go_on_where_they_were():
    statistics, other = EpisodeStatistics(), EpisodeStatistics()
    statistics.add(episode(1.0, 2))
    other.load_state_dict(json.loads(json.dumps(statistics.state_dict())))
    for each in (statistics, other):
        each.add(episode(3.0, 4))
    assert other.take() == statistics.take() == {
        "episode_return_mean": 2.0, "episode_length_mean": 3.0, "episodes": 2,
    }  # fmt: skip

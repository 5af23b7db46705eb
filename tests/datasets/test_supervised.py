"""Arrays become recorded episodes."""

from __future__ import annotations

import minari
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.datasets.dataset import Dataset
from rl_lab.datasets.supervised import write_examples
from rl_lab.types import UsageError

IMAGES = np.arange(3 * 5 * 6, dtype=np.uint8).reshape(3, 5, 6)


class TestWriting:
    def test_an_example_is_an_episode_of_one_step(self, tmp_path):
        write_examples(tmp_path / "data", IMAGES, np.array([2, 0, 1]), num_classes=5)
        data = Dataset(tmp_path / "data")
        assert data.observation_space == spaces.Box(0, 255, (5, 6), np.uint8)
        assert data.action_space == spaces.Discrete(5)
        for number, label in enumerate([2, 0, 1]):
            episode = data.episode(number)
            np.testing.assert_array_equal(episode.observations, [IMAGES[number], np.zeros((5, 6))])
            assert (episode.actions.tolist(), episode.rewards.tolist()) == ([label], [1.0])
            assert (episode.terminations.tolist(), episode.truncations.tolist()) == ([True], [False])
            assert episode.masks is None
            assert data.seed_of(number) == number

    def test_steps_without_a_label_allow_one_action_only(self, tmp_path):
        inputs = np.arange(12.0).reshape(2, 3, 2)
        write_examples(tmp_path / "last", inputs, np.array([1, 2]), sequences=True)
        episode = Dataset(tmp_path / "last").episode(1)
        assert (episode.actions.tolist(), episode.rewards.tolist()) == ([0, 0, 2], [0.0, 0.0, 1.0])
        assert episode.masks.sum(axis=1).tolist() == [1, 1, 3, 3]
        assert episode.masks[:, 0].all()
        write_examples(tmp_path / "some", inputs, np.array([[1, -1, 0], [-1, -1, 2]]), sequences=True)
        episode = Dataset(tmp_path / "some").episode(0)
        assert (episode.actions.tolist(), episode.rewards.tolist()) == ([1, 0, 0], [1.0, 0.0, 1.0])
        assert episode.masks.sum(axis=1).tolist() == [3, 1, 3, 3]

    def test_takes_indices_and_series_of_different_lengths(self, tmp_path):
        series = [np.array([3, 1]), np.array([0, 2, 4])]
        write_examples(tmp_path / "data", series, [np.array([0, 1]), np.array([1, 1, 0])], sequences=True)
        data = Dataset(tmp_path / "data")
        assert data.observation_space == spaces.Discrete(5)
        assert [data.episode(k).actions.tolist() for k in range(2)] == [[0, 1], [1, 1, 0]]
        assert data.episode(0).masks is None

    def test_minari_reads_it(self, tmp_path):
        write_examples(tmp_path / "data", IMAGES, [0, 1, 1])
        episodes = list(minari.MinariDataset(tmp_path / "data").iterate_episodes())
        assert [int(e.actions[0]) for e in episodes] == [0, 1, 1]

    @pytest.mark.parametrize(
        ("inputs", "labels", "fields", "named"),
        [
            (IMAGES, [0, 1], {}, "inputs 3 and labels 2"),
            (IMAGES, [0, 1, -1], {}, r"\[-1\] of example 2"),
            (IMAGES, [0, 1, 1.5], {}, "example 2"),
            (IMAGES, [0, 1, 3], {"num_classes": 3}, "num_classes 3.*from 4"),
            (np.full((2, 3), np.nan), [0, 1], {}, "can't be recorded.*allowed"),
            (np.array(["a", "b"]), [0, 1], {}, "can't be recorded.*allowed"),
            (IMAGES, np.full((3, 5), -1), {"sequences": True}, "of example 0.*allowed"),
            (IMAGES, np.zeros((3, 4), int), {"sequences": True}, "of example 0 don't fit its 5 steps"),
            ([np.zeros((2, 1)), np.zeros((2, 2))], [0, 1], {"sequences": True}, "example 1 is.*allowed"),
            ([], [], {}, "there are none"),
        ],
    )
    def test_refuses_what_does_not_fit(self, inputs, labels, fields, named, tmp_path):
        with pytest.raises(UsageError, match=named) as error:
            write_examples(tmp_path / "data", inputs, labels, **fields)
        assert "\n" not in str(error.value)
        assert list(tmp_path.iterdir()) == []

    def test_never_overwrites_anything(self, tmp_path):
        write_examples(tmp_path / "data", IMAGES, [0, 1, 2])
        with pytest.raises(UsageError, match="there already"):
            write_examples(tmp_path / "data", IMAGES, [0, 1, 2])

"""Labelled examples as an environment: what it shows, what it pays, and its picture."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import rl_lab.envs  # noqa: F401  registers lab/*
from rl_lab.datasets.supervised import write_examples
from rl_lab.environments.make import make_env, make_envs
from rl_lab.types import UsageError

IMAGES = np.arange(3 * 5 * 6, dtype=np.uint8).reshape(3, 5, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "data"
    write_examples(path, IMAGES[:, :, :1], np.array([2, 0, 1]), sequences=True)
    return path


class TestLabelledExamples:
    def test_pays_for_the_label_where_there_is_one(self, folder):
        env = make_env("lab/Examples-v0", {"path": str(folder)})
        for answer, expected in ((0, 1.0), (1, 0.0)):
            obs, info = env.reset(seed=4)  # 4 modulo 3
            paid = []
            for t in range(5):
                np.testing.assert_array_equal(obs, IMAGES[1, t, :1])
                assert info["action_mask"].tolist() == ([1, 1, 1] if t == 4 else [1, 0, 0])
                obs, reward, terminated, truncated, info = env.step(answer if t == 4 else 0)
                paid.append(reward)
            assert paid == [0.0] * 4 + [expected]
            assert (terminated, truncated) == (True, False)

    def test_every_example_comes_up(self, folder):
        envs = make_envs("lab/Examples-v0", 3, env_kwargs={"path": str(folder)})
        obs, _ = envs.reset(seed=[0, 1, 2])
        np.testing.assert_array_equal(obs, IMAGES[:, 0, :1])
        envs.close()

    def test_is_exclusive_or_without_a_folder(self):
        env = gymnasium.make("lab/Examples-v0")
        for seed, label in enumerate([0, 1, 1, 0]):
            obs, _ = env.reset(seed=seed)
            assert int(obs.sum()) % 2 == label
            assert env.step(label)[1:4] == (1.0, True, False)

    def test_draws_images(self, tmp_path):
        write_examples(tmp_path / "data", IMAGES, [0, 1, 2])
        env = gymnasium.make("lab/Examples-v0", path=str(tmp_path / "data"), render_mode="rgb_array")
        env.reset(seed=2)
        frame = env.render()
        assert frame.dtype == np.uint8
        assert frame.shape[2] == 3
        assert min(frame.shape[:2]) >= 64

    def test_names_a_folder_that_is_none(self, tmp_path):
        with pytest.raises(UsageError, match="holds no dataset"):
            gymnasium.make("lab/Examples-v0", path=str(tmp_path))

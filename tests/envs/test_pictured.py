"""Pictures of environments follow what happens, and change nothing."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from tabular_envs import UP, make


class TestPictures:
    @pytest.mark.parametrize(
        "env_id", ["lab/Gambler-v0", "lab/Blackjack-v0", "lab/GridWorld-v0", "lab/Cliff-v0"]
    )
    def test_pictures_outlive_a_pygame_that_others_shut_down(self, env_id):
        import pygame

        env = gymnasium.make(env_id, render_mode="rgb_array")
        env.reset(seed=1)
        before = env.render()
        pygame.quit()
        assert np.array_equal(env.render(), before)
        env.close()

    @pytest.mark.parametrize("name", ["Blackjack", "Cliff", "CarRental"])
    def test_drawing_changes_nothing_and_windows_close_twice(self, name):
        plain, shown, drawn = make(name), make(name, render_mode="human"), make(name, render_mode="rgb_array")
        shown.unwrapped.metadata = {**shown.unwrapped.metadata, "render_fps": 1000}
        for action in (0, 1):
            for env in (plain, shown, drawn):
                env.reset(seed=4)
            drawn.render()
            results = [env.step(action)[:4] for env in (plain, shown, drawn)]
            assert results[0] == results[1] == results[2]
        for env in (shown, shown.unwrapped, drawn):
            env.close()

    @pytest.mark.parametrize(
        ("name", "action"),
        [("Gambler", 1), ("CarRental", 1), ("Blackjack", 1), ("Garnet", 1), ("Bandit", 1), ("Cliff", UP)],
    )
    def test_pictures_follow_what_happens(self, name, action):
        env = make(name, render_mode="rgb_array")
        env.reset(seed=2)
        before = env.render()
        env.step(action)
        after = env.render()
        assert before.shape == after.shape
        assert before.shape[0] % 2 == before.shape[1] % 2 == 0  # video codecs ask for even sides
        assert (before != after).any()
        env.close()

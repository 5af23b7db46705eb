"""The base class of environments that play a model: actions and render modes that it refuses."""

from __future__ import annotations

import pytest

from rl_lab.envs.sutton_barto.cliff import Cliff
from tabular_envs import make


class TestRefusals:
    @pytest.mark.parametrize("action", [-1, 4, 1.5])
    def test_refuses_other_actions(self, action):
        env = make("Cliff").unwrapped
        env.reset(seed=0)
        with pytest.raises(ValueError, match=f"action {action}"):
            env.step(action)

    def test_refuses_other_render_modes(self):
        with pytest.raises(ValueError, match="render_mode 'ansi'"):
            Cliff(render_mode="ansi")

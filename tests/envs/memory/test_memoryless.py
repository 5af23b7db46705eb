"""The search for the best policy without memory."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.envs.gridworld import GridWorld
from rl_lab.envs.memory.memoryless import hide_observations, search_memoryless

CORNER = "S.\n#G"  # right, then down: on a blank one doesn't know which


def test_mixing_on_blanks_pays_in_a_corner():
    problem = hide_observations(GridWorld(CORNER).model(), 0.5)
    value, chances = search_memoryless(problem, 1e-6)
    np.testing.assert_allclose(chances, [0, 0.5, 0.5, 0], atol=0.01)
    # Each of two moves succeeds with probability 3/4: it takes 8/3 steps on average.
    assert value == pytest.approx(1.0 - 0.01 * 8 / 3, abs=1e-6)

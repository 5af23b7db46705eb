"""What the environments' contract has checked isn't checked again; what it doesn't promise still is."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.replay.rollout import Rollout
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Step
from toys import spec_of


def step_to(value: float, dtype: str, *, checked: bool, reward: float = 1.0) -> Step:
    no = np.zeros(1, np.bool_)
    obs, after = np.zeros((1, 1), dtype), np.array([[value]], dtype)
    return Step(obs, np.array([0]), np.array([reward]), no, no, after, no, (), (), None, None, {}, checked)


def stores(dtype: str):
    space = spaces.Box(-np.inf, np.inf, (1,), np.dtype(dtype).type)
    return TransitionReplay(4, spec_of(space)), Rollout(4)


@pytest.mark.parametrize("kind", [0, 1])
class TestFinite:
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    def test_is_required_of_steps_that_nobody_has_checked(self, kind, dtype):
        store = stores(dtype)[kind]
        with pytest.raises(FloatingPointError, match="next observation"):
            store.add(step_to(np.nan, dtype, checked=False))

    def test_is_required_in_float32_of_checked_doubles(self, kind):
        store = stores("f8")[kind]
        with pytest.raises(FloatingPointError, match="next observation"):
            store.add(step_to(1e300, "f8", checked=True))

    def test_is_believed_of_checked_singles(self, kind):
        store = stores("f4")[kind]
        store.add(step_to(np.nan, "f4", checked=True))  # which no environment under contract gives

    def test_is_required_of_all_rewards(self, kind):
        store = stores("f4")[kind]
        with pytest.raises(FloatingPointError, match="reward"):
            store.add(step_to(0.0, "f4", checked=True, reward=1e300))

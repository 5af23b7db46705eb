"""Networks that can't be built for an observation space are refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.nn.validate import refuse_network
from rl_lab.updates.fields import TrainedFields

PLANES = spaces.Box(0, 1, (8, 8, 12), np.uint8)


@pytest.mark.parametrize("space", [PLANES, spaces.Dict({"a": PLANES, "b": spaces.Discrete(2)})])
def test_a_shift_needs_to_know_where_the_channels_are(space):
    fields = {"encoder": "mlp", "random_shift": 2}
    reason = refuse_network(TrainedFields(**fields), space)
    assert reason == (
        "random_shift can't tell the channels of Box(0, 1, (8, 8, 12), uint8)"
        " (allowed: --channels first, --channels last)"
    )
    assert refuse_network(TrainedFields(**fields, channels="last"), space) is None
    assert refuse_network(TrainedFields(encoder="mlp"), space) is None


def test_a_shift_needs_an_image():
    reason = refuse_network(TrainedFields(random_shift=2), spaces.Box(-1, 1, (3,)))
    assert reason.startswith("random_shift 2 finds no image in Box(")

"""Runs whose checkpoints are written ahead from the first steps on, though their replays are small."""

from __future__ import annotations

import pytest

from rl_lab.runs import moments
from rl_lab.storage import segments

LIMIT = 2_000
"""Bytes of new rows that are written ahead."""


def write_ahead_early(patch: pytest.MonkeyPatch) -> None:
    """Let a few dozen steps be worth writing ahead."""
    patch.setattr(segments, "AHEAD_BYTES", LIMIT)
    patch.setattr(segments, "LEAST_BYTES", 1)
    patch.setattr(moments, "FIRST_LOOK", 8)

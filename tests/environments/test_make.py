"""Environments by name: what may be wrapped around them."""

from __future__ import annotations

import pytest
from gymnasium.wrappers import NormalizeObservation, TimeLimit

from counting import Counting
from rl_lab.environments.make import require_no_memory_across_episodes
from rl_lab.types import UsageError


def test_memory_across_episodes_is_refused():
    with pytest.raises(UsageError, match="NormalizeObservation remembers across episodes"):
        require_no_memory_across_episodes(TimeLimit(NormalizeObservation(Counting()), 3))

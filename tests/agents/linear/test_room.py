"""The memory that least squares is said to take, beside what it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from rl_lab.agents.linear import room
from rl_lab.agents.linear.features import Fourier, OneHot, Raw, Tiles, fourier_coefficients
from rl_lab.agents.linear.least_squares import lspi
from rl_lab.agents.linear.samples import SampleStore
from rl_lab.agents.linear.transitions import Transitions

FEATURES = {
    "tiles": Tiles(np.asarray, 8, (1, 1, 1)),
    "fourier": Fourier(np.asarray, fourier_coefficients(3, 2)),
    "one-hot": OneHot(np.asarray, 12),
    "raw": Raw(20),
}


def peak_bytes(features, capacity: int, actions: int) -> int:
    """Return the most memory that storing and solving held at once; all samples are of one action."""
    rng = np.random.default_rng(0)
    at = rng.random((2, capacity, features.dimensions))
    zeros, no, legal = np.zeros(capacity), np.zeros(capacity, bool), np.ones((capacity, actions), bool)
    steps = Transitions(at[0], zeros.astype(int), zeros, no, no, no, legal, at[1], legal, zeros.astype(int))
    tracemalloc.start()
    store = SampleStore(capacity, features.dimensions, actions)
    store.add(steps, legal)
    samples = store.samples(features, 0.9)
    lspi(
        samples, store.next_weight > 0, np.zeros((actions, features.count)), ridge=1.0, most=2, tolerance=0.0
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("actions", [2, 8])
@pytest.mark.parametrize("kind", FEATURES)
def test_what_is_predicted_is_enough_and_not_much_more(kind, actions):
    features, capacity = FEATURES[kind], 3_000
    predicted = room.system_bytes(features, actions) + capacity * room.sample_bytes(features, actions)
    assert 1.0 < predicted / peak_bytes(features, capacity, actions) < 2.0


def test_what_would_fit_is_named(monkeypatch):
    features = FEATURES["raw"]
    fixed, each = room.system_bytes(features, 2), room.sample_bytes(features, 2)
    monkeypatch.setattr(room, "free_memory", lambda: int((fixed + 100.5 * each) / room.MEMORY_SHARE))
    assert room.refuse_oversize(100, features, 2) is None
    assert room.refuse_oversize(101, features, 2).endswith("(allowed: up to 100)")
    monkeypatch.setattr(room, "free_memory", lambda: fixed // 2)
    assert "up to 0; the system of 40 weights alone" in room.refuse_oversize(1, features, 2)

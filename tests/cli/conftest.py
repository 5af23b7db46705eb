"""A run that the tests of several commands look at."""

from pathlib import Path

import pytest

from runs import learn


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    """A finished run with a few training episodes."""
    folder = tmp_path_factory.mktemp("run")
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=400, seed=2, log_every_steps=100)
    return folder

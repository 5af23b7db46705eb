"""One thread for each test process: two busy ones with two threads each starve one another."""

import os

import pytest

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy and torch read it
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def built(monkeypatch):
    """The names of the learners that are built from here on, one for each time."""
    from rl_lab.training import registry

    names = []
    original = registry._factory

    def counted(name):
        factory = original(name)

        def count(**fields):
            names.append(name)
            return factory(**fields)

        count.Config = factory.Config
        return count

    monkeypatch.setattr(registry, "_factory", counted)
    return names

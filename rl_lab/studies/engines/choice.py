"""Chooses by name what carries out the runs of a study."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rl_lab.studies.engines.engine import Engine, LocalEngine
from rl_lab.types import UsageError

ENGINES = ("local", "ray")


def make_engine(name: str, out: Path, workers: int) -> Engine:
    """Return an engine; nothing is started yet.

    Args:
        out: the study's directory.
        workers: how many runs go on at the same time.

    Raises:
        UsageError: the name is unknown, or what the engine needs isn't installed.
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r} (allowed: {', '.join(ENGINES)})")
    if name == "local":
        return LocalEngine()
    if find_spec("ray") is None:
        raise UsageError("engine 'ray' needs Ray, which isn't installed (pip install 'rl_lab[ray]')")
    from rl_lab.studies.engines.ray_cluster import RayEngine

    return RayEngine(out, workers)

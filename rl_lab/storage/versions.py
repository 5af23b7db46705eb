"""The versions of the software that a result depends on."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rl_lab", "gymnasium", "numpy", "scipy", "torch", "stable-baselines3", "wandb")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, without those not installed."""
    installed = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    return {"python": platform.python_version()} | installed


@cache  # reading the metadata of all packages takes as long as a hundred steps of training
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

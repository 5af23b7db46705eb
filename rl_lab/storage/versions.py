"""The versions of the software that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rl_lab", "gymnasium", "numpy", "scipy", "torch", "stable-baselines3", "wandb")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, without those not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

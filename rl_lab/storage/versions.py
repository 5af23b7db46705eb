"""The versions of the software that a result depends on, and the machine that its times depend on."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("rl_lab", "gymnasium", "numpy", "scipy", "torch", "stable-baselines3", "wandb")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, without those not installed."""
    installed = {name: found for name in PACKAGES if (found := _version(name)) is not None}
    return {"python": platform.python_version()} | installed


@cache
def hardware() -> dict[str, str]:
    """Return the processor, its number of cores, and the system; nothing that names this machine or its user."""
    model = platform.machine()
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        model = next(named, model)
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


@cache  # reading the metadata of all packages takes as long as a hundred steps of training
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

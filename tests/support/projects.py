"""Projects of third parties: their pyproject.toml, and how they are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"
"""
PACKAGE = """
[project.entry-points."rl_lab.agents"]
counting-bandit = "{name}.bandit:build"

[project.entry-points."rl_lab.envs"]
{name} = "{name}.arms"

[tool.setuptools]
packages = ["{name}"]

[tool.setuptools.package-data]
{name} = ["presets.yaml"]
"""
MODULE = """
[project.entry-points."rl_lab.agents"]
solo-bandit = "{name}:build"

[tool.setuptools]
py-modules = ["{name}"]
"""


def package_project(name: str) -> str:
    """Return the pyproject.toml of a package with the agent counting-bandit, its presets, and environments."""
    return (HEAD + PACKAGE).format(name=name)


def module_project(name: str) -> str:
    """Return the pyproject.toml of a single module with the agent solo-bandit."""
    return (HEAD + MODULE).format(name=name)


def install(source: Path, target: Path) -> None:
    """Install a project into a folder, without network."""
    options = [
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(target),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

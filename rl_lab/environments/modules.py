"""Imports modules that a user names, from the installed packages or from the working folder."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType


def import_here(name: str) -> ModuleType:
    """Import a module; the working folder is searched last, so that nothing in it hides an installed package.

    Raises:
        Exception: whatever the import raises.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(name)

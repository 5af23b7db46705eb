"""Whether somebody looks at what this process prints."""

from __future__ import annotations

import sys


def is_notebook() -> bool:
    """Say whether this process is the kernel of a notebook; IPython isn't imported for that."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def is_watched() -> bool:
    """Say whether this is a notebook, or a program whose stderr is a terminal."""
    return is_notebook() or sys.stderr.isatty()

"""Packages that are missing, and the command that installs them."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint


def missing(what: str, error: ImportError, entry: EntryPoint) -> str:
    """Return a line that says which package something needs, and what installs it if that is known.

    Args:
        what: what needs it.
        entry: where it was imported from.
    """
    command = remedy(entry, (error.name or "").partition(".")[0])
    allowed = "" if command is None else f" (allowed after: {command})"
    return f"{what} needs a package that is missing: {error}{allowed}"


def remedy(entry: EntryPoint, module: str) -> str | None:
    """Return the command that installs a module which an entry point imports, or None if its package names none for it.

    The package's metadata are asked: the module's own package has to be among its requirements, with an extra or
    without.
    """
    owner = entry.dist
    for line in () if owner is None else owner.requires or ():
        package = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        if owner is not None and re.sub(r"[-.]", "_", package).lower() == module.lower():
            extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", line)
            return f"pip install {package}" if extra is None else f"pip install '{owner.name}[{extra[1]}]'"
    return None

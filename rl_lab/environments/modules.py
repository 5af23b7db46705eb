"""Imports modules that a user names: from the installed packages, the working folder, or the script's folder."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rl_lab.types import UsageError

SCRIPT_FOLDER = "RL_LAB_SCRIPT_FOLDER"  # the variable that tells a worker of a study where the script lies


def import_here(name: str, what: str) -> ModuleType:
    """Import a module; the user's folders are searched last, so that nothing in them hides an installed package.

    Args:
        what: what names the module, for the message.

    Raises:
        UsageError: it isn't there, which says where it was looked for, or it fails when it is imported.
    """
    folders = searched_folders()
    sys.path += [folder for folder in folders if folder not in sys.path]
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == name.split(".")[0]
        where = (
            f" (looked for among the installed packages and in {' and '.join(folders)})" if is_absent else ""
        )
        raise UsageError(f"{what}: module {name!r} can't be imported: {cause}{where}") from error


def searched_folders() -> list[str]:
    """Return the folders in which a user's modules are looked for: the working folder, and that of the script."""
    folders = [os.getcwd()] + ([] if (script := script_folder()) is None else [script])
    return list(dict.fromkeys(folders))


def script_folder() -> str | None:
    """Return the folder of the Python script that runs, or that started this worker; None for installed commands."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is not None and file.endswith(".py") and getattr(main, "__spec__", None) is None:
        return str(Path(file).absolute().parent)
    return os.environ.get(SCRIPT_FOLDER)

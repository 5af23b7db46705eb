"""How the listing commands find and print one line about each thing."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def first_sentence(module: str, name: str) -> str:
    """Return the first sentence of the docstring of a class or function, or of its module if it has none.

    The source is read, not imported: listing agents loads neither torch nor SB3. "" if there is no source.
    """
    tree = _parsed(module)
    if tree is None:
        return ""
    kinds = ast.FunctionDef | ast.ClassDef
    found = next((node for node in tree.body if isinstance(node, kinds) and node.name == name), None)
    own = ast.get_docstring(found) if isinstance(found, kinds) else None
    text = own or ast.get_docstring(tree) or ""
    text = re.sub(r"^#.*$", "", text, flags=re.MULTILINE).strip()  # Gymnasium's begin with a heading
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text.partition("\n\n")[0])  # links: their text alone
    return re.split(r"(?<=[^A-Z]\.) ", " ".join(text.split()))[0]  # a capital before the stop is an initial


def missing_import(module: str) -> str | None:
    """Return the first package that a module imports at its top and that isn't there; None if all are.

    The source is read, not imported. Imports in functions or under conditions don't count.
    """
    tree = _parsed(module)
    for node in [] if tree is None else tree.body:
        named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            named = [node.module]
        for name in named:
            if not _is_there(top := name.partition(".")[0]):
                return top
    return None


def _is_there(top: str) -> bool:
    try:
        return find_spec(top) is not None
    except (ImportError, ValueError):
        return False


@cache
def _parsed(module: str) -> ast.Module | None:
    """Return the syntax tree of a module, found without importing it or the packages around it."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [Path(folder, *rest) for folder in folders]
    found = [Path(spec.origin)] if spec is not None and spec.origin and not rest else []
    found += [path for file in files for path in (file.with_suffix(".py"), file / "__init__.py")]
    source = next((path for path in found if path.is_file() and path.suffix == ".py"), None)
    try:
        return None if source is None else ast.parse(source.read_text(encoding="utf8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None


def print_table(rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows of words in columns; in a terminal the last column is cut at its edge."""
    rows = list(rows)
    if not rows:
        return
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for row in rows:
        padded = [word.ljust(width) for word, width in zip(row, widths, strict=False)]
        line = "  ".join([*padded, row[-1]]).rstrip()
        print(line if len(line) <= columns else line[: columns - 3].rstrip() + "...")

"""Make a page of the notebook, with what its cells showed when it was executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOKS = ("notebook.ipynb",)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add a page beside each notebook, which stays there to be downloaded."""
    for name in NOTEBOOKS:
        content, _resources = MarkdownExporter().from_filename(str(Path(config.docs_dir) / name))
        files.append(File.generated(config, str(Path(name).with_suffix(".md")), content=content))
    return files

"""Execute docs/notebook.ipynb in an empty folder and store it with what it shows; the pages are built from that."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
CELL_SECONDS = 300


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its cells, executed in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an exception.
    """
    node = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        node, timeout=CELL_SECONDS, startup_timeout=CELL_SECONDS, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    client.execute()
    for cell in node.cells:
        cell.metadata = {}  # times of execution
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = _last_states(output.text)
    node.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return node


def _last_states(text: str) -> str:
    """Return text as a terminal would show it in the end: of a progress bar the last state alone."""
    return "\n".join(line.rpartition("\r")[2].rstrip() for line in text.split("\n"))


def main() -> None:
    """Execute the notebook in place."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(execute(NOTEBOOK, Path(folder)), NOTEBOOK)


if __name__ == "__main__":
    main()

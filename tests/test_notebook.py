"""The notebook of the pages: it can be executed, and shows what it shows."""

from __future__ import annotations

import ast
import base64
import os
import re
import sys

import nbformat
import pytest

from pages import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from execute_notebook import NOTEBOOK, _last_states, execute

STORED = nbformat.read(NOTEBOOK, as_version=4)


def outputs_of(node):
    return [output for cell in node.cells for output in cell.get("outputs", ())]


def texts_of(node):
    """Return what cells return and print, as text."""
    return [
        output.data["text/plain"] if "data" in output else output.text
        for output in outputs_of(node)
        if output.get("name") != "stderr"  # the progress bar, with its times
    ]


def require_complete(node):
    """Require that every cell ran without an error, and that curves, a film and a table are shown."""
    assert all(cell.execution_count for cell in node.cells if cell.cell_type == "code")
    assert {output.output_type for output in outputs_of(node)} == {"execute_result", "stream"}
    shown = "\n".join(output.data.get("text/html", "") for output in outputs_of(node) if "data" in output)
    png = re.search(r'<img alt="learning curves" src="data:image/png;base64,([^"]+)"', shown)
    film = re.search(r'<video [^>]*src="data:video/mp4;base64,([^"]+)"', shown)
    assert base64.b64decode(png[1]).startswith(b"\x89PNG")
    assert base64.b64decode(film[1])[4:8] == b"ftyp"
    assert "<table>" in shown
    assert "<svg" in shown
    assert "100%" in "".join(output.text for output in outputs_of(node) if output.get("name") == "stderr")


def test_it_is_stored_with_what_it_shows_and_is_small():
    require_complete(STORED)
    assert NOTEBOOK.stat().st_size < 200_000


def test_nothing_of_the_machine_is_stored_in_it():
    text = NOTEBOOK.read_text(encoding="utf8")
    assert not re.search(r"/tmp/|/home/|/root/|/work/", text)
    assert {name for cell in STORED.cells for name in cell.metadata} == set()


def test_its_code_is_complete():
    for cell in STORED.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)


def test_of_a_progress_bar_the_last_state_is_kept():
    assert _last_states("\r 0%\r 50%\r100%  \nnext\n") == "100%\nnext\n"


@pytest.mark.long
def test_executed_again_it_shows_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    node = execute(NOTEBOOK, tmp_path)
    require_complete(node)
    assert texts_of(node) == texts_of(STORED)
    assert (tmp_path / "runs" / "lake" / "summary.json").exists()

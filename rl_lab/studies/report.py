"""Writes the page of a study, and its figures and tables as files beside it.

Numbers are computed over finished runs only, and missing runs are listed next to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of, write_atomically
from rl_lab.studies.page import static, tables
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.page.render import render
from rl_lab.studies.results import load_study

PAGE = "index.html"
FIGURES, TABLES = "figures", "tables"  # folders beside the page


def write_report(study_dir: str | Path, *, files: bool = True) -> Path:
    """Write `index.html` to a study directory and return its path.

    Args:
        files: write figures/ (each figure as PNG, SVG and CSV) and tables/ (every number as CSV and JSON, the results
            as Markdown and LaTeX) beside it, too.

    Raises:
        UsageError: the directory holds no study.
        NotWritten: the file system refused; a page that was there is as it was.
    """
    study = load_study(Path(study_dir))
    contents = contents_of(study)
    page = render(contents)
    if files:
        _write(study.directory / TABLES, tables.files_of(contents))
        for chart in contents.charts:
            drawn = static.files_of(chart, contents.shown.agents)
            _write(study.directory / FIGURES, drawn | {f"{chart.slug}.csv": tables.figure_csv(chart)})
    target = study.directory / PAGE
    write_atomically(target, page.encode())
    return target


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, each whole or not at all.

    Raises:
        NotWritten: the file system refused.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{folder} could not be made: {reason_of(error)}") from error
    for name, data in files.items():
        write_atomically(folder / name, data)

"""Keep the results of a study in little space: all numbers as JSON, Markdown tables, and curves as pictures.

Of a study that isn't finished, what is missing is named. The tables can be put into pages of the documentation, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rl_lab.cli.parsing import main, parse
from rl_lab.storage.files import write_atomically
from rl_lab.storage.places import require_folder
from rl_lab.studies.digest import SUMMARY, insert, write_digest
from rl_lab.studies.packing import PACKED, pack_runs
from rl_lab.types import UsageError

MOST_BYTES = 300_000  # that a repository keeps of a study


@dataclass(frozen=True)
class Options:
    """The script's options."""

    study: Annotated[str, tyro.conf.Positional]
    """Folder of the study, such as runs/studies/classic."""
    out: str = ""
    """Folder of the results; by default scripts/results/NAME, the name being that of the study's folder."""
    note: str = ""
    """What else has to be known of the runs, a sentence: it stands beside the tables."""
    runs: bool = False
    """Write runs.tar.xz, too: what the study needs of its finished runs to go on elsewhere."""
    pages: tuple[str, ...] = ()
    """Pages that get the summary, between <!-- study: NAME --> and <!-- end of study -->, NAME being that of out."""


def study_results(argv: Sequence[str]) -> int:
    """Write the results, print the sizes of the files and put the summary into pages; return the exit code.

    Raises:
        UsageError: a wrong option, no study, or a page without the comments.
        NotWritten: the file system refused.
    """
    options: Options = parse(Options, argv, program="scripts/study_results.py", about=__doc__)
    out = Path(options.out or Path("scripts/results", Path(options.study).resolve().name))
    require_folder(str(out), "out")
    pages = {Path(page): _read(page) for page in options.pages}
    for text in pages.values():
        insert(text, out.name, "")  # before anything is written
    sizes = write_digest(options.study, out, options.note)
    if options.runs:
        packed = pack_runs(options.study)
        write_atomically(out / PACKED, packed)
        print(f"{out / PACKED}: {len(packed) / 1000:.1f} kB")
    for name, size in sizes.items():
        print(f"{out / name}: {size / 1000:.1f} kB")
    if (whole := sum(sizes.values())) > MOST_BYTES:
        print(
            f"these are {whole / 1000:.0f} kB, more than the {MOST_BYTES // 1000} kB that a repository should keep"
        )
    summary = (
        f"{(out / SUMMARY).read_text(encoding='utf-8')}\n`{out.as_posix()}` has every number and the curves."
    )
    for page, text in pages.items():
        write_atomically(page, insert(text, out.name, summary).encode())
        print(f"{page}: has the summary")
    return 0


def _read(page: str) -> str:
    try:
        return Path(page).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"pages: {page} can't be read: {error}") from error


if __name__ == "__main__":
    main(study_results)

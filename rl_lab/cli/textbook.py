"""The command that makes figures of Sutton and Barto's book."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from rl_lab.checks import at_least
from rl_lab.cli.parsing import parse
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of
from rl_lab.storage.places import require_folder
from rl_lab.types import UsageError

ABOUT = """Make figures of Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd edition, as PNGs: with all
defaults all of them."""

Name = Literal["2.2", "4.2", "4.3", "6.2", "6.3", "6.5", "7.2", "8.2", "12.3"]
"""The names in `rl_lab.textbook.figures.FIGURES`."""
FRAMES_PER_SECOND = 12
FILMED = "8.2"  # the figure that has a film


@dataclass(frozen=True)
class TextbookOptions:
    """What the command takes."""

    figures: Annotated[tuple[Name, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FIGURE ...]")] = ()
    """Figures by the book's numbers: 2.2, 4.2, 4.3, 6.2, 6.3, 6.5, 7.2, 8.2, 12.3; by default all."""
    out: str = "textbook"
    """Folder for the PNGs; it is made if it isn't there."""
    runs: int | None = None
    """Independent runs over which a figure averages; by default as many as in the book, or fewer where that suffices.
    4.2 and 4.3 need none."""
    seed: int = 0
    """Seed of all random numbers."""
    film: str | None = None
    """File for a film, F.mp4 or F.gif, of the values in the maze of figure 8.2 while they are learned."""

    def __post_init__(self) -> None:
        at_least(self, 0, "seed")
        if self.runs is not None:
            at_least(self, 1, "runs")


def textbook(argv: Sequence[str]) -> int:
    """Make figures and a film; return the exit code.

    Raises:
        UsageError: a wrong option, or a place where no file can be written.
        NotWritten: the file system refused a file; one that was there is as it was.
    """
    options: TextbookOptions = parse(TextbookOptions, argv, program="rl-lab textbook", about=ABOUT)
    from rl_lab.evaluation.pictures import write_picture
    from rl_lab.evaluation.video import require_film, write_video
    from rl_lab.textbook.figures import FIGURES
    from rl_lab.textbook.maze import film

    if options.film is not None:
        require_film(options.film, "film")
        if options.figures and FILMED not in options.figures:
            given = ", ".join(options.figures)
            raise UsageError(
                f"film {options.film!r} does nothing for figure {given} (allowed: with {FILMED})"
            )
    folder = require_folder(options.out, "out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{folder} could not be made: {reason_of(error)}") from error
    for number in dict.fromkeys(options.figures or FIGURES):
        figure, begun = FIGURES[number], time.perf_counter()
        runs = 0 if figure.runs is None else options.runs or figure.runs
        path = folder / f"figure_{number}.png"
        write_picture(path, figure.make(runs, options.seed))
        over = "" if figure.runs is None else f", {runs:,} runs"
        print(f"{path}: {figure.about}{over} ({time.perf_counter() - begun:.1f} s)", flush=True)
    if options.film is not None:
        bar = tqdm(desc=options.film, unit=" pictures", disable=None)  # only in a terminal

        def tell(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        print(f"{options.film}: values in a maze are learned and drawn ...", flush=True)
        with bar:
            write_video(options.film, film(options.seed, told=tell), FRAMES_PER_SECOND)
        print(f"{options.film}: values in a maze while they are learned")
    return 0

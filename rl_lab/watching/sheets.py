"""Contact sheets: the moments of an episode side by side in one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation.video import Sink, fitted
from rl_lab.storage.files import write_atomically
from rl_lab.storage.places import require_file
from rl_lab.types import Array, UsageError

CELLS, COLUMNS, GAP_PIXELS = 24, 6, 6
BACKGROUND = (196, 200, 207)  # so that neither white nor dark pictures run into one another


def require_sheet(path: str | Path, name: str = "sheet") -> Path:
    """Return the path of a contact sheet, if it ends in .png and a file can be written there.

    Raises:
        UsageError: it doesn't, or can't.
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError(f"{name} {str(path)!r} must end in .png")
    return require_file(path, name)


class SheetWriter(Sink):
    """Writes up to CELLS of the pictures that are added, evenly spread, the first and the last among them.

    However many pictures come, only some of them are kept in memory.
    """

    def __init__(self, path: Path):
        self._path = path
        self._kept: list[Array] = []
        self._every, self._count = 1, 0
        self._last: Array | None = None

    def add(self, frame: Array) -> bool:
        """Take one picture uint8 [H, W, 3]; return True."""
        picture = as_rgb(frame)
        if self._count % self._every == 0:
            self._kept.append(picture)
        if len(self._kept) > 4 * CELLS:  # every second one remains
            self._kept, self._every = self._kept[::2], 2 * self._every
        self._last, self._count = picture, self._count + 1
        return True

    def close(self) -> None:
        """Write the sheet; without any pictures there is none.

        Raises:
            NotWritten: the file system refused; what was at its place is as it was.
        """
        if self._last is None:
            return
        pictures, self._kept, last = self._kept, [], self._last
        if last is not pictures[-1]:
            pictures.append(last)
        self._last = None
        buffer = io.BytesIO()
        Image.fromarray(tiled([pictures[i] for i in spread(len(pictures), CELLS)])).save(
            buffer, "PNG", optimize=True
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, buffer.getvalue())


def spread(count: int, most: int) -> list[int]:
    """Return up to `most` of the numbers 0, ..., count - 1, evenly spread, the first and the last among them."""
    return [round(x) for x in np.linspace(0, count - 1, min(count, most))]


def tiled(pictures: Sequence[Array]) -> Array:
    """Return pictures uint8 [H, W, 3], all in the size of the first, in rows of up to COLUMNS, uint8 [H', W', 3]."""
    height, width = pictures[0].shape[:2]
    columns = min(COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    sheet = np.empty(
        (rows * (height + GAP_PIXELS) + GAP_PIXELS, columns * (width + GAP_PIXELS) + GAP_PIXELS, 3), np.uint8
    )
    sheet[:] = BACKGROUND
    for index, picture in enumerate(pictures):
        top = GAP_PIXELS + index // columns * (height + GAP_PIXELS)
        left = GAP_PIXELS + index % columns * (width + GAP_PIXELS)
        sheet[top : top + height, left : left + width] = fitted(picture, pictures[0].shape)
    return sheet

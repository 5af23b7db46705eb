"""Several files that take their places together, once all of them are whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import move, reason_of, write_atomically


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a new folder within `folder`, whose files move up when the block has ended well.

    If it doesn't, what is in `folder` is as it was. The files move one after the other: a power cut between two
    of them leaves new files beside old ones, each of them whole.

    Raises:
        NotWritten: the file system refused.
    """
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    except OSError as error:
        raise NotWritten(f"{folder} could not be written into: {reason_of(error)}") from error
    try:
        yield place
        _move_up(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not was_there:
            with suppress(OSError):  # something is in it
                folder.rmdir()


def _move_up(place: Path, folder: Path) -> None:
    sources = sorted(place.iterdir())
    for target in (folder / source.name for source in sources):  # before the first one moves
        if target.exists() and not target.is_file():
            raise NotWritten(f"{target} could not be written: it is not a regular file")
    for source in sources:
        target = folder / source.name
        if target.is_symlink():  # which stays, and may point to another file system
            write_atomically(target, source.read_bytes())
        else:
            move(source, target)

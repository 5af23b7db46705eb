"""The format number of run directories, and how files of an older format are read.

config.json, study.json and every checkpoint carry the number of the format they were written in. Whoever reads
one brings it up to date with migrations, each of which goes from one format to the next, so that
only migrations know older layouts.

1. The first format. A replay once kept both ends of every transition and later each observation
   once; both layouts carry this number.
2. A replay keeps each observation once. Environment ids name `rl_lab.envs` instead of `envs`. A study.json
   carries no number before this one.
3. config.json says how observations are read (`channels`, `image_scale`, `one_hot_most`) and after how many steps an
   evaluation is cut off, which builds that wrote format 2 changed without a new number. Checkpoints are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rl_lab.storage.errors import FormatTooNew

FORMAT = 3

# From a format to the next: migrations[n] takes what format n holds and returns what format n + 1 does.
Migrations = Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]


def require_readable(number: int, path: Path) -> None:
    """Check that this version reads format `number`.

    Raises:
        FormatTooNew: it doesn't; the message names the file at `path`.
    """
    if number > FORMAT:
        raise FormatTooNew(f"{path} has format {number} (allowed: up to {FORMAT}; a newer version wrote it)")


def migrate(data: dict[str, Any], number: int, migrations: Migrations) -> dict[str, Any]:
    """Return `data` of format `number` as the current format has it.

    Raises:
        LookupError: there never was such a format.
    """
    for older in range(number, FORMAT):
        data = migrations[older](data)
    return data

"""Keeps what was joined to a study in its folder, so that it is shown again without being asked for.

joined/NAME.json holds the numbers themselves: they stay when the files that they came from are gone. Whoever removes
the file takes them out of the study.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rl_lab.storage.errors import FormatTooNew
from rl_lab.storage.files import reason_of, write_json
from rl_lab.storage.formats import FORMAT, require_readable
from rl_lab.studies.foreign.join import Join
from rl_lab.studies.foreign.joined import Joined, JoinedRun
from rl_lab.studies.results import RETURN, folder_name
from rl_lab.types import UsageError

FOLDER = "joined"


def keep(joins: Iterable[Join], out: Path) -> None:
    """Write what was joined into the study's folder; what was there under the same name is replaced.

    Raises:
        NotWritten: the file system refused.
    """
    for join in joins:
        (out / FOLDER).mkdir(parents=True, exist_ok=True)
        body = {
            "format": FORMAT,
            "name": join.name,
            "joined": [dataclasses.asdict(one) for one in join.joined],
        }
        write_json(_file(out, join.name), body)


def kept_in(out: Path) -> list[Join]:
    """Return what was joined to the study in this folder, in the order of the names.

    Raises:
        UsageError: a file of it is damaged.
        FormatTooNew: a newer version wrote one.
    """
    return [_load(path) for path in sorted((Path(out) / FOLDER).glob("*.json"))]


def joined_to(out: Path) -> tuple[Joined, ...]:
    """Return what was joined to the study in this folder; `kept_in` says what it raises."""
    return tuple(one for join in kept_in(out) for one in join.joined)


def require_free_names(agents: Sequence[str], joins: Iterable[Join], out: Path) -> None:
    """Check that what is joined, now or before, is called otherwise than the agents that are compared.

    Raises:
        UsageError: it isn't.
    """
    taken = {folder_name(agent): agent for agent in agents}
    new = list(joins)
    renewed = {join.name for join in new}
    every = [*new, *(join for join in kept_in(out) if join.name not in renewed)]
    seen: dict[str, str] = {}
    for join in every:
        for name in dict.fromkeys((join.name, *(one.agent for one in join.joined))):
            if (agent := taken.get(folder_name(name))) is not None:
                raise UsageError(
                    f"agent {agent!r} is compared, and {name!r} was joined (allowed: join it under another name, or"
                    f" remove {_file(out, join.name)})"
                )
            if seen.setdefault(folder_name(name), join.name) != join.name:
                raise UsageError(
                    f"{name!r} is joined as a part of {join.name!r} and of {seen[folder_name(name)]!r}"
                    " (allowed: distinct names)"
                )


def tell_changes(joins: Iterable[Join], out: Path, tell: Callable[[str], None]) -> None:
    """Tell which of the things to be joined take the place of something else of the same name."""
    before = {join.name: join for join in kept_in(out)}
    for join in joins:
        if (there := before.get(join.name)) is not None and there != join:
            was, now = (", ".join(dict.fromkeys(one.source for one in j.joined)) for j in (there, join))
            tell(
                f"joined {join.name} is read again from {now}"
                + ("" if was == now else f", in place of {was}")
            )


def _file(out: Path, name: str) -> Path:
    return out / FOLDER / f"{folder_name(name)}.json"


def _load(path: Path) -> Join:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        require_readable(body["format"], path)
        return Join(str(body["name"]), tuple(_joined(part) for part in body["joined"]))
    except FormatTooNew:
        raise
    except OSError as error:
        raise UsageError(f"{path} can't be read: {reason_of(error)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise UsageError(f"{path} is damaged: {why} (allowed: remove it, and join again)") from error


def _joined(part: dict[str, Any]) -> Joined:
    runs = tuple(_run(**run) for run in part["runs"])
    if not runs:
        raise ValueError("a part holds no run")
    return Joined(**part | {"runs": runs, "remarks": tuple(part["remarks"])})


def _run(
    seed: int | None, figures: dict[str, float], points: dict[str, Any], versions: dict[str, str]
) -> JoinedRun:
    known = {key: tuple((float(a), float(b)) for a, b in pairs) for key, pairs in points.items()}
    numbers = {key: value + 0 for key, value in figures.items()}  # a TypeError for what isn't a number
    numbers[RETURN]  # a LookupError without
    return JoinedRun(seed, numbers, known, versions)

"""Reads what `--join` names: NAME=PATH, NAME@ENV_ID=PATH or zoo:AGENT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_lab.studies.foreign.files import folders_of
from rl_lab.studies.foreign.joined import Joined, matching
from rl_lab.studies.foreign.published import PREFIX, join_published
from rl_lab.studies.foreign.run_folders import join_runs, run_folders_of
from rl_lab.studies.foreign.sb3_files import EVALUATIONS, is_monitor, join_sb3, sb3_folders_of
from rl_lab.studies.foreign.score_files import join_scores
from rl_lab.studies.results import folder_name
from rl_lab.types import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+:-]{0,79}")
FORMS = "allowed: NAME=PATH, NAME@ENV_ID=PATH, zoo:AGENT, NAME=zoo:AGENT"


@dataclass(frozen=True)
class Join:
    """What a word of `--join` brought in."""

    name: str
    joined: tuple[Joined, ...]


def read_joins(words: Sequence[str], env_ids: tuple[str, ...], out: Path) -> list[Join]:
    """Read everything that is to be joined to a study.

    Args:
        env_ids: the environments of the study.
        out: its directory.

    Raises:
        UsageError: a word has another form or repeats a name, a path holds nothing that can be joined or is the study
            itself, a file is damaged, or nothing in it belongs to an environment of the study.
        FormatTooNew: a newer version wrote a run.
    """
    joins: list[Join] = []
    for word in words:
        name, env_id, place = _parts(word)
        if any(folder_name(name) == folder_name(join.name) for join in joins):
            raise UsageError(
                f"join {word!r} repeats the name {name!r} (allowed: distinct names, as names of files too)"
            )
        joined = _read(name, env_id, place, env_ids, out)
        if not any(matching(joined, env) for env in env_ids):
            there = ", ".join(dict.fromkeys(one.env_id for one in joined))
            raise UsageError(
                f"join {word!r} is of {there}, which isn't compared (allowed: {', '.join(env_ids)})"
            )
        joins.append(Join(name, tuple(joined)))
    return joins


def _parts(word: str) -> tuple[str, str | None, str]:
    """Return the name, the environment if it is said, and the place of what is to be joined."""
    head, equals, place = word.partition("=")
    if not equals and word.startswith(PREFIX):
        head, place = word, word
    name, at, env_id = head.partition("@")
    if not place or not NAME.fullmatch(name) or bool(at) != bool(env_id):
        raise UsageError(f"join {word!r} can't be read ({FORMS}; a name has letters, digits and . _ + : -)")
    return name, env_id or None, place


def _read(name: str, env_id: str | None, place: str, env_ids: tuple[str, ...], out: Path) -> list[Joined]:
    if place.startswith(PREFIX):
        if env_id is not None:
            raise UsageError(f"join {name}@{env_id}={place}: {PREFIX} knows its environments ({FORMS})")
        return join_published(name, place.removeprefix(PREFIX), env_ids)
    path = Path(place)
    if path.is_dir():
        return _folder(name, env_id, path, out)
    if not path.is_file():
        raise UsageError(
            f"join {name!r}: there is no {place!r} (allowed: a folder of runs, or a CSV file of scores)"
        )
    if is_monitor(path) or path.name == EVALUATIONS:
        raise UsageError(f"join {name!r}: {place!r} is a file of a run of SB3 (allowed: its folder)")
    return join_scores(name, path, env_id)


def _folder(name: str, env_id: str | None, path: Path, out: Path) -> list[Joined]:
    if (inside := path.resolve()) == out.resolve() or out.resolve() in inside.parents:
        raise UsageError(f"join {name!r}: {str(path)!r} belongs to the study itself (allowed: other folders)")
    folders = folders_of(path)
    ours, theirs = run_folders_of(folders), sb3_folders_of(folders)
    if ours and theirs:
        raise UsageError(
            f"join {name!r}: {str(path)!r} holds runs of the lab ({ours[0]}) and of SB3 ({theirs[0]})"
            " (allowed: join them under names of their own)"
        )
    if ours and env_id is not None:
        raise UsageError(
            f"join {name}@{env_id}: runs of the lab know their environments (allowed: {name}={path})"
        )
    if ours:
        return join_runs(name, ours, path)
    if theirs:
        return join_sb3(name, theirs, path, env_id)
    raise UsageError(
        f"join {name!r}: {str(path)!r} holds no run (allowed: a folder with config.json of the lab, or monitor.csv or"
        f" {EVALUATIONS} of SB3, in itself or below)"
    )

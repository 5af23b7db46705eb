"""YAML in which no name stands twice: the language itself would take the last value without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rl_lab.types import UsageError

MERGE = "tag:yaml.org,2002:merge"  # of the name <<, which takes in what another mapping holds


class StandsTwice(ValueError):
    """A name stands twice in one mapping."""


def read_yaml(text: str) -> Any:
    """Return what a text of YAML or JSON holds: plain values, never objects of other kinds.

    Raises:
        YAMLError: it isn't YAML.
        StandsTwice: a name stands twice in one mapping; the message has the lines.
    """
    if (root := yaml.compose(text, Loader=yaml.SafeLoader)) is not None:
        _require_distinct(root)
    return yaml.safe_load(text)


def read_yaml_file(path: str | Path, what: str) -> Any:
    """Return what a file of YAML or JSON holds.

    Args:
        what: the file's name for messages, such as "config file".

    Raises:
        UsageError: it can't be read, isn't YAML, or a name stands twice in it.
    """
    try:
        return read_yaml(Path(path).read_text(encoding="utf8"))
    except OSError as error:
        raise UsageError(f"{what} {str(path)!r}: {error.strerror}") from error
    except StandsTwice as error:
        raise UsageError(f"{what} {str(path)!r}: {error} (allowed: once)") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{what} {str(path)!r} is not YAML: {' '.join(str(error).split())}") from error


def _require_distinct(root: yaml.Node) -> None:
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _require_distinct_names(node)
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _require_distinct_names(node: yaml.MappingNode) -> None:
    line_of: dict[tuple[str, str], int] = {}
    names = (name for name, _ in node.value if isinstance(name, yaml.ScalarNode) and name.tag != MERGE)
    for name in names:
        line, known = name.start_mark.line + 1, (name.tag, name.value)
        if known in line_of:
            raise StandsTwice(f"{name.value!r} stands twice, in lines {line_of[known]} and {line}")
        line_of[known] = line

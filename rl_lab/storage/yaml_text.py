"""YAML in which no name stands twice: the language itself would take the last value without a word."""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """Return what a text of YAML or JSON holds: plain values, never objects of other kinds.

    Raises:
        YAMLError: it isn't YAML, or a name stands twice in one mapping; the message has the lines.
    """
    if (root := yaml.compose(text, Loader=yaml.SafeLoader)) is not None:
        _require_distinct(root)
    return yaml.safe_load(text)


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
    for name in (name for name, _ in node.value if isinstance(name, yaml.ScalarNode)):
        line, known = name.start_mark.line + 1, (name.tag, name.value)
        if known in line_of:
            raise yaml.YAMLError(f"{name.value!r} stands twice, in lines {line_of[known]} and {line}")
        line_of[known] = line

"""What the time of training is spent on: the parts that rows report, added up for a person to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PARTS = {
    "update_seconds": "learning",
    "store_seconds": "learning",
    "act_seconds": "acting",
    "step_seconds": "environment",
    "reset_seconds": "environment",
    "record_seconds": "recording",
    "compile_seconds": "compilation",
}  # columns of rows, by what they are called for a person


class Spending:
    """Adds up the seconds of this session's rows."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take the parts that a row reports in."""
        for column, part in PARTS.items():
            if column in row:
                self._seconds[part] = self._seconds.get(part, 0.0) + row[column]

    def split(self, spent: Mapping[str, float]) -> dict[str, float]:
        """Return seconds by what they were spent on, with the parts of training in its place if they are known.

        What remains of training is added to "other".
        """
        if not self._seconds:
            return dict(spent)
        rest = {name: seconds for name, seconds in spent.items() if name != "training"}
        rest["other"] += max(0.0, spent["training"] - sum(self._seconds.values()))
        return dict(sorted(self._seconds.items(), key=lambda part: -part[1])) | rest

"""Callbacks that tests give to runs."""

from __future__ import annotations

import copy
import random
import sys
from typing import Any

import numpy as np

from rl_lab.runs.callbacks import Event


class Listener:
    """Notes every event; what it does beside that would change a run that isn't protected from it."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.rows: list[dict[str, Any]] = []

    def on_row(self, event: Event) -> None:
        self._note(event)

    def on_evaluation(self, event: Event) -> None:
        self._note(event)

    def on_checkpoint(self, event: Event) -> None:
        self._note(event)

    def _note(self, event: Event) -> None:
        self.events.append((event.kind, event.env_steps))
        self.rows.append(copy.deepcopy(event.row))
        random.random(), np.random.rand(3)  # noqa: NPY002
        if (torch := sys.modules.get("torch")) is not None:
            torch.rand(3)
        for value in event.row.values():
            if isinstance(value, list):
                value.clear()
        event.row.clear()

    def of(self, kind: str) -> list[int]:
        """Return the env_steps of all events of a kind."""
        return [env_steps for name, env_steps in self.events if name == kind]

"""The interface between environments and pictures: what a picture is told and what it can do. Needs no pygame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from rl_lab.types import Array

TRAIL_STEPS = 24  # how many of the latest states a picture can show


@dataclass
class Moment:
    """One moment of an episode, as a picture shows it."""

    state: int
    """Number of the current state."""
    trail: deque[int]
    """Numbers of the latest states, oldest first; the last one is `state`."""
    action: int | None = None
    """The latest action; None at the start of an episode."""
    reward: float = 0.0
    """The reward of the latest action."""
    steps: int = 0
    """Number of steps taken in this episode."""
    total: float = 0.0
    """Undiscounted return of this episode so far."""
    symbols: tuple[int, ...] = ()
    """The symbols of an episode that tests memory, in the order in which they are shown."""
    asked: int = 0
    """Index of the symbol that the episode asks for."""


class Picture(Protocol):
    """A picture of an environment."""

    def draw(self, moment: Moment) -> Array:
        """Return the picture of a moment, uint8 [H, W, 3]."""
        ...

    def show(self, moment: Moment, frames_per_second: int) -> None:
        """Show the picture of a moment in a window, at no more than this frame rate."""
        ...

    def close(self) -> None:
        """Close the window if there is one."""
        ...


def start_trail(state: int) -> deque[int]:
    """Return the trail of an episode that starts in `state`."""
    return deque([state], maxlen=TRAIL_STEPS)

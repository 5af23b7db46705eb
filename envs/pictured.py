"""The base of environments that draw what happened last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium

from rl_lab.types import Array


@dataclass
class Moment:
    """What a picture shows: where the episode is and how it came there."""

    state: int
    """The state's number."""
    trail: deque[int]
    """The latest states, oldest first; the last is `state`."""
    action: int | None = None
    """The latest action; None at the start of an episode."""
    reward: float = 0.0
    """What it earned."""
    steps: int = 0
    """Steps of this episode so far."""
    total: float = 0.0
    """Undiscounted return of this episode so far."""


class Picture(Protocol):
    """How an environment is drawn for people."""

    def draw(self, moment: Moment) -> Array:
        """Return the picture uint8 [H, W, 3]."""
        ...

    def show(self, moment: Moment, frames_per_second: int) -> None:
        """Show the picture in a window, at most so many a second."""
        ...

    def close(self) -> None:
        """Close the window, if there is one."""
        ...


class PicturedEnv(gymnasium.Env):
    """An environment with a `_moment` and the picture that is made of it, when first asked for."""

    _moment: Moment
    _picture: Picture | None = None

    def render(self) -> Any:
        """Return the picture uint8 [H, W, 3], or show it in a window; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            self._picture = self._make_picture()
        if self.render_mode == "human":
            return self._picture.show(self._moment, self.metadata["render_fps"])
        return self._picture.draw(self._moment)

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None

    def _make_picture(self) -> Picture:
        raise NotImplementedError

"""The base class of environments that have a picture from `drawing`."""

from __future__ import annotations

from typing import Any

import gymnasium

from rl_lab.envs.checks import require_render_mode
from rl_lab.envs.drawing.picture import Moment, Picture


class PicturedEnv(gymnasium.Env):
    """An environment whose picture is made when it is first rendered.

    A subclass makes the picture (`_make_picture`), and keeps the moment that it shows in `_moment` or returns it
    from `_describe_moment`. `_make_picture` imports the module that draws, so that pygame is loaded only then.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 8}  # noqa: RUF012
    _moment: Moment
    _picture: Picture | None = None

    def __init__(self, render_mode: str | None) -> None:
        """Set the render mode. Raises ValueError for one that `metadata` doesn't list."""
        self.render_mode = require_render_mode(render_mode, self.metadata)

    def render(self) -> Any:
        """Return the picture uint8 [H, W, 3], or show it in a window; return None without a render mode."""
        if self.render_mode is None:
            return None
        if self._picture is None:
            self._picture = self._make_picture()
        moment = self._describe_moment()
        if self.render_mode == "human":
            return self._picture.show(moment, self.metadata["render_fps"])
        return self._picture.draw(moment)

    def close(self) -> None:
        """Close the window if there is one."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None

    def _make_picture(self) -> Picture:
        raise NotImplementedError

    def _describe_moment(self) -> Moment:
        return self._moment

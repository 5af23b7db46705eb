"""The parts that every pygame picture is made of: a panel to paint on, text, and a window."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pygame

from rl_lab.envs.drawing.colours import INK, PAPER, Colour
from rl_lab.envs.drawing.picture import Moment
from rl_lab.types import Array

Paint = Callable[[pygame.Surface, Moment], None]
"""Paints a moment onto an empty surface."""


class Window:
    """A window that opens when it first shows something."""

    def __init__(self, caption: str) -> None:
        self.caption = caption
        self.screen: pygame.Surface | None = None

    def show(self, surface: pygame.Surface, frames_per_second: int) -> None:
        """Show a surface, at no more than this frame rate."""
        if self.screen is None:
            pygame.display.init()
            self.screen = pygame.display.set_mode(surface.get_size())
            pygame.display.set_caption(self.caption)
            self.clock = pygame.time.Clock()
        self.screen.blit(surface, (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self.clock.tick(frames_per_second)

    def close(self) -> None:
        """Close the window if it is open. Leaves pygame itself running, because others may be drawing."""
        if self.screen is not None:
            pygame.display.quit()
            self.screen = None


class Panel:
    """A `Picture` that one function paints from scratch for each moment."""

    def __init__(self, size: tuple[int, int], paint: Paint, caption: str) -> None:
        """Take the size (width, height) in pixels, the function that paints, and the window's title."""
        assert not any(side % 2 for side in size), "video codecs need even sides"
        self.size, self.paint, self.window = size, paint, Window(caption)

    def draw(self, moment: Moment) -> Array:
        """Return the picture of a moment, uint8 [H, W, 3]."""
        return _read_pixels(self._compose(moment))

    def show(self, moment: Moment, frames_per_second: int) -> None:
        """Show the picture of a moment in a window, at no more than this frame rate."""
        self.window.show(self._compose(moment), frames_per_second)

    def close(self) -> None:
        """Close the window if there is one."""
        self.window.close()

    def _compose(self, moment: Moment) -> pygame.Surface:
        surface = pygame.Surface(self.size)
        surface.fill(PAPER)
        self.paint(surface, moment)
        return surface


def _read_pixels(surface: pygame.Surface) -> Array:
    """Return the pixels of a surface, uint8 [H, W, 3]."""
    return np.ascontiguousarray(pygame.surfarray.array3d(surface).transpose(1, 0, 2))


def write(
    surface: pygame.Surface,
    text: str,
    position: tuple[int, int],
    size: int = 22,
    colour: Colour = INK,
    anchor: str = "center",
) -> None:
    """Write text so that the `anchor` of its box (an attribute of `pygame.Rect`) lies at `position`."""
    try:
        image = _font(size).render(text, True, colour)
    except pygame.error:  # another environment has shut pygame down since this font was loaded
        _font.cache_clear()
        image = _font(size).render(text, True, colour)
    surface.blit(image, image.get_rect(**{anchor: position}))


@lru_cache(maxsize=32)
def _font(size: int) -> pygame.font.Font:
    pygame.font.init()
    return pygame.font.Font(None, size)

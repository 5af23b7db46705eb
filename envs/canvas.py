"""What pictures of finite environments share: a panel that is drawn on, text, and a window."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from rl_lab.envs.pictured import Moment
from rl_lab.types import Array

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

Colour = tuple[int, int, int]
PAPER: Colour = (250, 247, 240)
INK: Colour = (62, 68, 81)
FAINT: Colour = (226, 219, 206)
BLUE: Colour = (58, 112, 214)
GREEN: Colour = (76, 175, 120)
RED: Colour = (196, 78, 72)
GOLD: Colour = (236, 179, 60)

Paint = Callable[[pygame.Surface, Moment], None]


class Window:
    """A window that opens when it is first shown a picture."""

    def __init__(self, caption: str) -> None:
        self.caption = caption
        self.screen: pygame.Surface | None = None

    def show(self, picture: pygame.Surface, frames_per_second: int) -> None:
        """Show a picture, at most so many a second."""
        if self.screen is None:
            pygame.display.init()
            self.screen = pygame.display.set_mode(picture.get_size())
            pygame.display.set_caption(self.caption)
            self.clock = pygame.time.Clock()
        self.screen.blit(picture, (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self.clock.tick(frames_per_second)

    def close(self) -> None:
        """Close the window, if it is open; pygame itself stays, since others may be drawing."""
        if self.screen is not None:
            pygame.display.quit()
            self.screen = None


def pixels_of(picture: pygame.Surface) -> Array:
    """Return the pixels of a picture, uint8 [H, W, 3]."""
    return np.ascontiguousarray(pygame.surfarray.array3d(picture).transpose(1, 0, 2))


class Panel:
    """A picture that is painted anew each time by one function."""

    def __init__(self, size: tuple[int, int], paint: Paint, caption: str) -> None:
        assert not any(side % 2 for side in size), "video codecs ask for even sides"
        self.size, self.paint, self.window = size, paint, Window(caption)

    def draw(self, moment: Moment) -> Array:
        """Return the picture uint8 [H, W, 3]."""
        return pixels_of(self._compose(moment))

    def show(self, moment: Moment, frames_per_second: int) -> None:
        """Show the picture in a window, at most so many a second."""
        self.window.show(self._compose(moment), frames_per_second)

    def close(self) -> None:
        """Close the window, if there is one."""
        self.window.close()

    def _compose(self, moment: Moment) -> pygame.Surface:
        surface = pygame.Surface(self.size)
        surface.fill(PAPER)
        self.paint(surface, moment)
        return surface


def write(
    surface: pygame.Surface,
    text: str,
    position: tuple[int, int],
    size: int = 22,
    colour: Colour = INK,
    anchor: str = "center",
) -> None:
    """Write text with the point `anchor` of its box (a name of pygame.Rect's) at a position."""
    try:
        image = _font(size).render(text, True, colour)
    except pygame.error:  # another environment has shut pygame down since the font was made
        _font.cache_clear()
        image = _font(size).render(text, True, colour)
    surface.blit(image, image.get_rect(**{anchor: position}))


@lru_cache(maxsize=32)
def _font(size: int) -> pygame.font.Font:
    pygame.font.init()
    return pygame.font.Font(None, size)

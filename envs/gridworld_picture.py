"""How a grid world is drawn for people: the map once, then the trail and the agent on top."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from rl_lab.envs.canvas import Colour, Window, pixels_of
from rl_lab.types import Array

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
import pygame

if TYPE_CHECKING:
    from rl_lab.envs.gridworld import Grid

TARGET_SIDE = 512  # pixels of the longer side, about
SHARPNESS = 4  # sprites are drawn this much larger and scaled down, which smooths their edges

FLOOR: tuple[Colour, Colour] = ((250, 247, 240), (244, 240, 231))  # a faint chequer
LINE: Colour = (226, 219, 206)
WALL: Colour = (62, 68, 81)
WALL_TOP: Colour = (84, 92, 108)
START: Colour = (176, 190, 208)
GOAL: Colour = (76, 175, 120)
GOAL_FIELD: Colour = (214, 238, 220)
PIT: Colour = (46, 26, 34)
PIT_RIM: Colour = (196, 78, 72)
GAIN: Colour = (236, 179, 60)
LOSS: Colour = (154, 104, 188)
AGENT: Colour = (58, 112, 214)
AGENT_RIM: Colour = (255, 255, 255)


class Picture:
    """Draws one map. Everything that stays is drawn once."""

    def __init__(self, grid: Grid, rewards: Mapping[str, float], trail_steps: int) -> None:
        height, width = grid.letters.shape
        # An even number of pixels each way, which video codecs ask for.
        self.side = max(12, TARGET_SIDE // max(height, width)) // 2 * 2
        self.centres = [
            (int(column * self.side + self.side // 2), int(row * self.side + self.side // 2))
            for row, column in grid.cells
        ]
        self.background = _draw_map(grid, rewards, self.side)
        self.agent = _draw_agent(self.side)
        self.dots = [_draw_dot(self.side, (n + 1) / trail_steps) for n in range(trail_steps)]  # oldest first
        self.window = Window("Grid world")

    def draw(self, state: int, trail: Collection[int]) -> Array:
        """Return the picture of a state and the states before it, uint8 [H, W, 3]."""
        return pixels_of(self._compose(state, trail))

    def show(self, state: int, trail: Collection[int], frames_per_second: int) -> None:
        """Show the picture in a window, at most so many a second."""
        self.window.show(self._compose(state, trail), frames_per_second)

    def close(self) -> None:
        """Close the window, if there is one."""
        self.window.close()

    def _compose(self, state: int, trail: Collection[int]) -> pygame.Surface:
        surface = self.background.copy()
        for dot, past in zip(self.dots[-len(trail) :], trail, strict=True):
            _blit_centred(surface, dot, self.centres[past])
        _blit_centred(surface, self.agent, self.centres[state])
        return surface


def _draw_map(grid: Grid, rewards: Mapping[str, float], side: int) -> pygame.Surface:
    height, width = grid.letters.shape
    surface = pygame.Surface((width * side, height * side))
    for (row, column), letter in np.ndenumerate(grid.letters):
        cell = pygame.Rect(column * side, row * side, side, side)
        surface.fill(FLOOR[(row + column) % 2], cell)
        pygame.draw.rect(surface, LINE, cell, 1)
        _draw_cell(surface, cell, str(letter), rewards)
    return surface


def _draw_cell(surface: pygame.Surface, cell: pygame.Rect, letter: str, rewards: Mapping[str, float]) -> None:
    painters = {"#": _paint_wall, "S": _paint_start, "G": _paint_goal, "P": _paint_pit}
    if letter in painters:
        painters[letter](surface, cell)
    elif letter in rewards:
        _paint_disc(surface, cell, GAIN if rewards[letter] > 0 else LOSS, 0.24)


def _paint_wall(surface: pygame.Surface, cell: pygame.Rect) -> None:
    surface.fill(WALL, cell)
    inset = max(1, cell.width // 12)
    pygame.draw.rect(surface, WALL_TOP, cell.inflate(-2 * inset, -2 * inset), border_radius=inset)


def _paint_start(surface: pygame.Surface, cell: pygame.Rect) -> None:
    _paint_disc(surface, cell, START, 0.36)
    _paint_disc(surface, cell, FLOOR[0], 0.30)


def _paint_goal(surface: pygame.Surface, cell: pygame.Rect) -> None:
    surface.fill(GOAL_FIELD, cell.inflate(-2, -2))
    sprite = _sprite(cell.width, GOAL_FIELD)
    size = cell.width * SHARPNESS
    pole = pygame.Rect(int(0.32 * size), int(0.18 * size), max(1, int(0.06 * size)), int(0.66 * size))
    flag = [(pole.right, pole.top), (int(0.80 * size), int(0.34 * size)), (pole.right, int(0.52 * size))]
    pygame.draw.polygon(sprite, GOAL, flag)
    pygame.draw.rect(sprite, WALL, pole, border_radius=pole.width // 2)
    _blit_centred(surface, _smooth(sprite, cell.width), cell.center)


def _paint_pit(surface: pygame.Surface, cell: pygame.Rect) -> None:
    _paint_disc(surface, cell, PIT_RIM, 0.42)
    _paint_disc(surface, cell, PIT, 0.34)


def _paint_disc(surface: pygame.Surface, cell: pygame.Rect, colour: Colour, radius: float) -> None:
    sprite = _sprite(cell.width, colour)
    _fill_circle(sprite, colour, radius)
    _blit_centred(surface, _smooth(sprite, cell.width), cell.center)


def _draw_agent(side: int) -> pygame.Surface:
    sprite = _sprite(side, AGENT_RIM)
    _fill_circle(sprite, AGENT_RIM, 0.34)
    _fill_circle(sprite, AGENT, 0.29)
    return _smooth(sprite, side)


def _draw_dot(side: int, strength: float) -> pygame.Surface:
    """Draw one dot of the trail; `strength` in 0..1 fades it with age."""
    sprite = _sprite(side, AGENT)
    _fill_circle(sprite, AGENT, 0.05 + 0.05 * strength)
    dot = _smooth(sprite, side)
    dot.set_alpha(int(30 + 130 * strength))
    return dot


def _sprite(side: int, colour: Colour) -> pygame.Surface:
    """Return an empty sprite; `colour` is what its transparent pixels blend with when scaled down."""
    sprite = pygame.Surface((side * SHARPNESS, side * SHARPNESS), pygame.SRCALPHA)
    sprite.fill((*colour, 0))
    return sprite


def _smooth(sprite: pygame.Surface, side: int) -> pygame.Surface:
    return pygame.transform.smoothscale(sprite, (side, side))


def _fill_circle(sprite: pygame.Surface, colour: Colour, radius: float) -> None:
    size = sprite.get_width()
    pygame.draw.circle(sprite, colour, (size // 2, size // 2), int(radius * size))


def _blit_centred(surface: pygame.Surface, sprite: pygame.Surface, centre: tuple[int, int]) -> None:
    surface.blit(sprite, sprite.get_rect(center=centre))

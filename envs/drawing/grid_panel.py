"""The picture of a map of cells: the map is painted once, then the trail and the agent on top of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pygame

from rl_lab.envs.drawing.canvas import Panel, write
from rl_lab.envs.drawing.colours import BLUE, FAINT, GOLD, GREEN, INK, PAPER, PURPLE, RED, WHITE, Colour
from rl_lab.envs.drawing.picture import TRAIL_STEPS, Moment
from rl_lab.types import Array

TARGET_SIDE = 512  # approximate length of the longer side in pixels
SHARPNESS = 4  # sprites are painted this many times larger and scaled down, which smooths their edges

FLOOR: tuple[Colour, Colour] = (PAPER, (244, 240, 231))  # a faint chequerboard
WALL_TOP: Colour = (84, 92, 108)
START: Colour = (176, 190, 208)
GOAL_FIELD: Colour = (214, 238, 220)
PIT: Colour = (46, 26, 34)
AGENT = BLUE


def grid_panel(
    letters: Array,
    cells: Array,
    rewards: Mapping[str, float] | None = None,
    labels: Mapping[int, str] | None = None,
) -> Panel:
    """Show a map with the agent in its current state and a dot in each of the latest states.

    Args:
        letters: the character of each cell, str [rows, columns]: `#` wall, `S` start, `G` goal, `P` pit.
        cells: (row, column) of each state, int [S, 2].
        rewards: reward of entering each further character, which is shown as a gain or a loss.
        labels: text in the corner of a cell, by state.
    """
    height, width = letters.shape
    side = max(12, TARGET_SIDE // max(height, width)) // 2 * 2  # even, because video codecs need even sides
    centres = [(int(column * side + side // 2), int(row * side + side // 2)) for row, column in cells]
    background = _paint_map(letters, rewards or {}, side)
    for state, text in (labels or {}).items():
        _label(background, centres[state], side, text)
    agent = _agent_sprite(side)
    dots = [_dot_sprite(side, (age + 1) / TRAIL_STEPS) for age in range(TRAIL_STEPS)]  # oldest first

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        surface.blit(background, (0, 0))
        for dot, past in zip(dots[-len(moment.trail) :], moment.trail, strict=True):
            _blit_centred(surface, dot, centres[past])
        _blit_centred(surface, agent, centres[moment.state])

    return Panel((width * side, height * side), paint, "Grid world")


def _paint_map(letters: Array, rewards: Mapping[str, float], side: int) -> pygame.Surface:
    height, width = letters.shape
    surface = pygame.Surface((width * side, height * side))
    for (row, column), letter in np.ndenumerate(letters):
        cell = pygame.Rect(column * side, row * side, side, side)
        surface.fill(FLOOR[(row + column) % 2], cell)
        pygame.draw.rect(surface, FAINT, cell, 1)
        _paint_cell(surface, cell, str(letter), rewards)
    return surface


def _label(surface: pygame.Surface, centre: tuple[int, int], side: int, text: str) -> None:
    """Write text in the upper right corner of a cell."""
    corner = (centre[0] + side // 2 - max(3, side // 12), centre[1] - side // 2 + max(2, side // 12))
    size = max(14, side // 3) if side < 80 else side // 4
    write(surface, text, corner, size, anchor="topright")


def _paint_cell(
    surface: pygame.Surface, cell: pygame.Rect, letter: str, rewards: Mapping[str, float]
) -> None:
    painters = {"#": _paint_wall, "S": _paint_start, "G": _paint_goal, "P": _paint_pit}
    if letter in painters:
        painters[letter](surface, cell)
    elif letter in rewards:
        _paint_disc(surface, cell, GOLD if rewards[letter] > 0 else PURPLE, 0.24)


def _paint_wall(surface: pygame.Surface, cell: pygame.Rect) -> None:
    surface.fill(INK, cell)
    inset = max(1, cell.width // 12)
    pygame.draw.rect(surface, WALL_TOP, cell.inflate(-2 * inset, -2 * inset), border_radius=inset)


def _paint_start(surface: pygame.Surface, cell: pygame.Rect) -> None:
    _paint_disc(surface, cell, START, 0.36)
    _paint_disc(surface, cell, FLOOR[0], 0.30)


def _paint_goal(surface: pygame.Surface, cell: pygame.Rect) -> None:
    surface.fill(GOAL_FIELD, cell.inflate(-2, -2))
    sprite = _empty_sprite(cell.width, GOAL_FIELD)
    size = cell.width * SHARPNESS
    pole = pygame.Rect(int(0.32 * size), int(0.18 * size), max(1, int(0.06 * size)), int(0.66 * size))
    flag = [(pole.right, pole.top), (int(0.80 * size), int(0.34 * size)), (pole.right, int(0.52 * size))]
    pygame.draw.polygon(sprite, GREEN, flag)
    pygame.draw.rect(sprite, INK, pole, border_radius=pole.width // 2)
    _blit_centred(surface, _smooth(sprite, cell.width), cell.center)


def _paint_pit(surface: pygame.Surface, cell: pygame.Rect) -> None:
    _paint_disc(surface, cell, RED, 0.42)
    _paint_disc(surface, cell, PIT, 0.34)


def _paint_disc(surface: pygame.Surface, cell: pygame.Rect, colour: Colour, radius: float) -> None:
    sprite = _empty_sprite(cell.width, colour)
    _fill_circle(sprite, colour, radius)
    _blit_centred(surface, _smooth(sprite, cell.width), cell.center)


def _agent_sprite(side: int) -> pygame.Surface:
    sprite = _empty_sprite(side, WHITE)
    _fill_circle(sprite, WHITE, 0.34)
    _fill_circle(sprite, AGENT, 0.29)
    return _smooth(sprite, side)


def _dot_sprite(side: int, strength: float) -> pygame.Surface:
    """Return a dot of the trail; `strength` is 1 for the latest state and falls towards 0 with age."""
    sprite = _empty_sprite(side, AGENT)
    _fill_circle(sprite, AGENT, 0.05 + 0.05 * strength)
    dot = _smooth(sprite, side)
    dot.set_alpha(int(30 + 130 * strength))
    return dot


def _empty_sprite(side: int, colour: Colour) -> pygame.Surface:
    """Return a transparent sprite; `colour` is what its edges blend with when it is scaled down."""
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

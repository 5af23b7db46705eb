"""Pictures of the environments that need memory, one function each."""

from __future__ import annotations

import pygame

from rl_lab.envs.drawing.canvas import Panel, write
from rl_lab.envs.drawing.colours import (
    BLUE,
    DIM,
    FAINT,
    GOLD,
    GREEN,
    INK,
    PURPLE,
    RED,
    SAND,
    TEAL,
    WHITE,
    Colour,
)
from rl_lab.envs.drawing.picture import Moment

SYMBOLS: tuple[Colour, ...] = (BLUE, RED, GREEN, GOLD, PURPLE, TEAL)
SHOWN_BITS = 24
SHOWN_SYMBOLS = 9


def tmaze_panel(length: int) -> Panel:
    """Show the maze from above with its goal, and in words the sign, which is grey where the agent can't see it.

    State `sign * (length + 1) + cell` is a cell of the corridor; the next number after those is the end.
    """
    pitch = min(44.0, 440.0 / (length + 1))  # the cells of long corridors overlap
    side = max(8, int(pitch))
    left, top = 256 - pitch * length / 2 - side / 2, 150 - side // 2

    def cell(column: int, row: int) -> pygame.Rect:
        return pygame.Rect(round(left + pitch * column), top + side * row, side, side)

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        sign, place = divmod(min(moment.state, 2 * length + 1), length + 1)
        over = moment.state == 2 * (length + 1)
        if over:  # show where the agent turned
            sign, place = divmod(moment.trail[-2], length + 1)
        pygame.draw.rect(surface, SAND, cell(0, 0).union(cell(length, 0)))
        for row in (-1, 1):
            pygame.draw.rect(surface, GREEN if (row < 0) == (sign == 0) else SAND, cell(length, row))
        colour = INK if moment.state in (0, length + 1) else DIM
        write(surface, "sign: " + ("south" if sign else "north"), (20, 60), 26, colour, "midleft")
        row = 0 if not over else -1 if moment.action == 0 else 1
        pygame.draw.ellipse(surface, BLUE, cell(place, row).inflate(-side // 4, -side // 4))
        _write_result(surface, moment)

    return Panel((512, 320), paint, "T-maze")


def memory_chain_panel(length: int) -> Panel:
    """Show the bits (as rings once they are out of sight), which one is asked for, and the time that has passed.

    `moment.state` is the number of answers given; `length` of them come before the one that counts.
    """

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        shown = moment.symbols[:SHOWN_BITS]
        gap = min(60, 460 // len(shown))
        left = 256 - gap * (len(shown) - 1) // 2
        for n, bit in enumerate(shown):
            asked = moment.state >= length and n == moment.asked
            centre, radius = (left + gap * n, 110), max(4, gap // 3)
            colour = BLUE if bit else RED
            pygame.draw.circle(surface, colour, centre, radius, 0 if moment.state == 0 else 2)
            if asked:
                pygame.draw.circle(surface, GOLD, centre, radius + 5, 3)
        write(surface, "which one was it?" if moment.state == length else "", (256, 44), 26)
        _paint_time(surface, moment.state, length + 1)
        _write_result(surface, moment)

    return Panel((512, 320), paint, "Memory chain")


def repeat_previous_panel(length: int, k: int) -> Panel:
    """Show the latest symbols: the one in sight is filled, the one asked for, k steps before, is framed.

    `moment.state` is the number of answers given, out of `length`.
    """

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        now = min(moment.state, length - 1)
        for back in range(min(SHOWN_SYMBOLS, now + 1)):
            number = moment.symbols[now - back]
            card = pygame.Rect(448 - 52 * back, 96, 44, 62)
            colour = SYMBOLS[number % len(SYMBOLS)]
            pygame.draw.rect(surface, colour, card, 0 if back == 0 else 3, border_radius=6)
            write(surface, str(number), card.center, 28, WHITE if back == 0 else colour)
            if back == k:
                pygame.draw.rect(surface, INK, card.inflate(8, 8), 3, border_radius=8)
        write(surface, f"name the symbol of {k} steps before", (256, 44), 26)
        _paint_time(surface, moment.state, length)
        _write_result(surface, moment)

    return Panel((512, 320), paint, "Repeat previous")


def catch_panel(rows: int, columns: int, visible_rows: int) -> Panel:
    """Show the board; a ball that the agent can't see is a ring.

    The state is `(row * columns + ball) * columns + paddle`.
    """
    side = max(6, 440 // max(rows, columns)) // 2 * 2

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        row, ball = divmod(moment.state // columns, columns)
        paddle = moment.state % columns
        for y in range(rows):
            for x in range(columns):
                tile = pygame.Rect(x * side + 1, y * side + 1, side - 2, side - 2)
                pygame.draw.rect(surface, SAND if y < visible_rows else FAINT, tile)
        plate = pygame.Rect(paddle * side, (rows - 1) * side + side // 2, side, side // 2)
        pygame.draw.rect(surface, INK, plate, border_radius=side // 6)
        colour = GOLD if moment.reward == 0.0 else GREEN if moment.reward > 0 else RED
        centre = (ball * side + side // 2, row * side + side // 2)
        pygame.draw.circle(surface, colour, centre, side // 3, 0 if row < visible_rows else 3)

    return Panel((columns * side, rows * side), paint, "Catch")


def _paint_time(surface: pygame.Surface, done: int, steps: int) -> None:
    """Show how much of an episode is over, as a bar."""
    pygame.draw.rect(surface, FAINT, (40, 204, 432, 14), border_radius=7)
    pygame.draw.rect(surface, BLUE, (40, 204, 432 * done // steps, 14), border_radius=7)


def _write_result(surface: pygame.Surface, moment: Moment) -> None:
    write(surface, f"step {moment.steps}", (140, 284), 24, DIM)
    colour = GREEN if moment.reward > 0 else RED if moment.reward < 0 else DIM
    write(surface, f"reward {moment.reward:+.2f}", (256, 284), 24, colour)
    write(surface, f"in all {moment.total:+.2f}", (380, 284), 24, DIM)

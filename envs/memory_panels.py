"""Pictures of the environments that need memory, one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pygame

from rl_lab.envs.canvas import BLUE, FAINT, GOLD, GREEN, INK, RED, Colour, Panel, write
from rl_lab.envs.pictured import Moment

if TYPE_CHECKING:
    from rl_lab.envs.memory_chain import MemoryChain
    from rl_lab.envs.quiz import Quiz
    from rl_lab.envs.repeat_previous import RepeatPrevious

DIM: Colour = (110, 116, 128)
FLOOR: Colour = (236, 231, 220)
WHITE: Colour = (255, 255, 255)
CARDS: tuple[Colour, ...] = (BLUE, RED, GREEN, GOLD, (154, 104, 188), (84, 168, 180))
PAST = 9  # symbols that are shown


def tmaze_panel(length: int) -> Panel:
    """Show the maze from above, the sign at its start, and the goal, which the agent can't see."""
    pitch = min(44.0, 440.0 / (length + 1))  # cells of long corridors are narrow, and overlap
    side = max(8, int(pitch))
    left, top = 256 - pitch * length / 2 - side / 2, 150 - side // 2

    def cell(column: int, row: int) -> pygame.Rect:
        return pygame.Rect(round(left + pitch * column), top + side * row, side, side)

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        sign, place = divmod(min(moment.state, 2 * length + 1), length + 1)
        over = moment.state == 2 * (length + 1)
        if over:  # where it was before, and where it turned
            sign, place = divmod(moment.trail[-2], length + 1)
        pygame.draw.rect(surface, FLOOR, cell(0, 0).union(cell(length, 0)))
        for row in (-1, 1):
            pygame.draw.rect(surface, GREEN if (row < 0) == (sign == 0) else FLOOR, cell(length, row))
        colour = INK if moment.state in (0, length + 1) else DIM  # as it is in sight or not
        write(surface, "sign: " + ("south" if sign else "north"), (20, 60), 26, colour, "midleft")
        row = 0 if not over else -1 if moment.action == 0 else 1
        pygame.draw.ellipse(surface, BLUE, cell(place, row).inflate(-side // 4, -side // 4))
        _write_result(surface, moment)

    return Panel((512, 320), paint, "T-maze")


def memory_chain_panel(env: MemoryChain) -> Panel:
    """Show the bits (hollow once they are out of sight), what is asked for and the time left."""

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        shown = env.bits[:24].tolist()
        gap = min(60, 460 // len(shown))
        left = 256 - gap * (len(shown) - 1) // 2
        for n, bit in enumerate(shown):
            asked = moment.state >= env.length and n == env.query
            centre, radius = (left + gap * n, 110), max(4, gap // 3)
            colour = BLUE if bit else RED
            pygame.draw.circle(surface, colour, centre, radius, 0 if moment.state == 0 else 2)
            if asked:
                pygame.draw.circle(surface, GOLD, centre, radius + 5, 3)
        write(surface, "which one was it?" if moment.state == env.length else "", (256, 44), 26)
        _draw_time(surface, moment, env)
        _write_result(surface, moment)

    return Panel((512, 320), paint, "Memory chain")


def repeat_previous_panel(env: RepeatPrevious) -> Panel:
    """Show the latest symbols; the one that is in sight is filled, the one asked for is framed."""

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        now = min(moment.state, env.length - 1)
        for back in range(min(PAST, now + 1)):
            number = env.shown[now - back]
            card = pygame.Rect(448 - 52 * back, 96, 44, 62)
            colour = CARDS[number % len(CARDS)]
            pygame.draw.rect(surface, colour, card, 0 if back == 0 else 3, border_radius=6)
            write(surface, str(number), card.center, 28, WHITE if back == 0 else colour)
            if back == env.k:
                pygame.draw.rect(surface, INK, card.inflate(8, 8), 3, border_radius=8)
        write(surface, f"name the symbol of {env.k} steps before", (256, 44), 26)
        _draw_time(surface, moment, env)
        _write_result(surface, moment)

    return Panel((512, 320), paint, "Repeat previous")


def catch_panel(rows: int, columns: int, visible_rows: int) -> Panel:
    """Show the board; a ball that the agent can't see is a ring."""
    side = max(6, 440 // max(rows, columns)) // 2 * 2

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        row, ball = divmod(moment.state // columns, columns)
        paddle = moment.state % columns
        for y in range(rows):
            for x in range(columns):
                tile = pygame.Rect(x * side + 1, y * side + 1, side - 2, side - 2)
                pygame.draw.rect(surface, FLOOR if y < visible_rows else FAINT, tile)
        plate = pygame.Rect(paddle * side, (rows - 1) * side + side // 2, side, side // 2)
        pygame.draw.rect(surface, INK, plate, border_radius=side // 6)
        colour = GOLD if moment.reward == 0.0 else GREEN if moment.reward > 0 else RED
        centre = (ball * side + side // 2, row * side + side // 2)
        pygame.draw.circle(surface, colour, centre, side // 3, 0 if row < visible_rows else 3)

    return Panel((columns * side, rows * side), paint, "Catch")


def _draw_time(surface: pygame.Surface, moment: Moment, env: Quiz) -> None:
    pygame.draw.rect(surface, FAINT, (40, 204, 432, 14), border_radius=7)
    done = 432 * moment.state // env.steps
    pygame.draw.rect(surface, BLUE, (40, 204, done, 14), border_radius=7)


def _write_result(surface: pygame.Surface, moment: Moment) -> None:
    write(surface, f"step {moment.steps}", (140, 284), 24, DIM)
    colour = GREEN if moment.reward > 0 else RED if moment.reward < 0 else DIM
    write(surface, f"reward {moment.reward:+.2f}", (256, 284), 24, colour)
    write(surface, f"in all {moment.total:+.2f}", (380, 284), 24, DIM)

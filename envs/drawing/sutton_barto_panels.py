"""Pictures of the book's examples that aren't played on a map of cells, one function each."""

from __future__ import annotations

from collections.abc import Sequence

import pygame

from rl_lab.envs.drawing.canvas import Panel, write
from rl_lab.envs.drawing.colours import BLUE, DIM, FAINT, GOLD, GREEN, INK, RED, Colour
from rl_lab.envs.drawing.picture import TRAIL_STEPS, Moment
from rl_lab.types import Array

FELT: Colour = (60, 122, 92)
CARD: Colour = (252, 251, 247)
CARD_BACK: Colour = (64, 92, 158)
WINDSCREEN: Colour = (190, 214, 250)
PULLED: Colour = (206, 220, 246)


def gambler_panel(goal: int) -> Panel:
    """Show the capital as a bar that fills up to the goal, and the latest capitals as a line."""

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        colour = GREEN if moment.state == goal else RED if moment.state == 0 else GOLD
        write(surface, f"capital {moment.state}", (256, 34), 40)
        frame = pygame.Rect(40, 76, 432, 44)
        pygame.draw.rect(surface, FAINT, frame, border_radius=8)
        filled = pygame.Rect(40, 76, 432 * moment.state // goal, 44)
        pygame.draw.rect(surface, colour, filled, border_radius=8)
        for tick in range(0, goal + 1, goal // 4):
            x = 40 + 432 * tick // goal
            pygame.draw.line(surface, INK, (x, 124), (x, 130))
            write(surface, str(tick), (x, 142), 20, DIM)
        _plot_trail(surface, list(moment.trail), pygame.Rect(40, 168, 432, 110), goal)
        if moment.action is not None:
            write(surface, f"staked {moment.action}", (256, 300), 24, DIM)

    return Panel((512, 320), paint, "The gambler's problem")


def _plot_trail(surface: pygame.Surface, values: Sequence[int], area: pygame.Rect, top: int) -> None:
    """Plot values, oldest first, as a line within an area whose upper edge stands for `top`."""
    pygame.draw.line(surface, FAINT, area.bottomleft, area.bottomright, 2)
    points = [
        (area.left + n * area.width // (TRAIL_STEPS - 1), area.bottom - area.height * value // top)
        for n, value in enumerate(values)
    ]
    if len(points) > 1:
        pygame.draw.lines(surface, BLUE, False, points, 2)
    for point in points:
        pygame.draw.circle(surface, BLUE, point, 4)


def car_rental_panel(capacity: int, max_moved: int) -> Panel:
    """Show the cars at both places, and how many were moved and what that day earned.

    Action `max_moved + n` moves n cars from the first place to the second.
    """

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        for place, cars in enumerate(divmod(moment.state, capacity + 1)):
            left = 24 + 264 * place
            write(surface, f"{'first' if place == 0 else 'second'} place: {cars}", (left + 100, 28), 26)
            for slot in range(capacity):
                column, row = slot % 5, slot // 5
                _paint_car(surface, left + 40 * column, 52 + 52 * row, slot < cars)
        if moment.action is not None:
            _paint_transfer(surface, moment.action - max_moved)
            write(surface, f"day {moment.steps}: {moment.reward:+.1f}", (140, 296), 24, DIM)
            write(surface, f"in all {moment.total:+.0f}", (372, 296), 24, DIM)

    return Panel((512, 320), paint, "Jack's car rental")


def _paint_car(surface: pygame.Surface, x: int, y: int, parked: bool) -> None:
    pygame.draw.rect(surface, FAINT, (x, y, 36, 46), 0 if not parked else 2, border_radius=4)
    if parked:
        pygame.draw.rect(surface, BLUE, (x + 8, y + 5, 20, 36), border_radius=7)
        pygame.draw.rect(surface, WINDSCREEN, (x + 11, y + 12, 14, 8), border_radius=3)


def _paint_transfer(surface: pygame.Surface, moved: int) -> None:
    write(surface, str(abs(moved)), (254, 124), 28)
    if moved:
        ends = ((236, 148), (272, 148)) if moved > 0 else ((272, 148), (236, 148))
        pygame.draw.line(surface, GOLD, *ends, 4)
        tip, back = ends[1], -8 if moved > 0 else 8
        pygame.draw.polygon(surface, GOLD, [tip, (tip[0] + back, 140), (tip[0] + back, 156)])


def blackjack_panel(hands: Array) -> Panel:
    """Show the dealer's card, the player's sum and who won.

    Args:
        hands: (sum, dealer's card, usable ace) of each state, int [S, 3].
    """

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        total, dealer, usable = (int(x) for x in hands[moment.state])
        surface.fill(FELT)
        write(surface, "dealer", (192, 26), 26, CARD)
        _paint_card(surface, 112, "A" if dealer == 1 else str(dealer))
        _paint_card(surface, 204, None)
        write(surface, str(total), (192, 240), 96, RED if total > 21 else CARD)
        write(surface, "with a usable ace" if usable else "", (192, 296), 24, CARD)
        write(surface, _result(moment, total), (192, 336), 30, GOLD)

    return Panel((384, 360), paint, "Blackjack")


def _result(moment: Moment, total: int) -> str:
    if moment.action is None or (moment.action == 1 and total <= 21):
        return ""
    if total > 21:
        return "above 21: lost"
    return "won" if moment.reward > 0 else "lost" if moment.reward < 0 else "a draw"


def _paint_card(surface: pygame.Surface, x: int, text: str | None) -> None:
    card = pygame.Rect(x, 50, 68, 100)
    pygame.draw.rect(surface, CARD if text else CARD_BACK, card, border_radius=8)
    pygame.draw.rect(surface, CARD, card, 3, border_radius=8)
    if text:
        write(surface, text, card.center, 52)


def bandit_panel(means: Array) -> Panel:
    """Show the mean of each arm, means [A], with one standard deviation around it, and the latest reward."""
    low, high = float(means.min()) - 3.0, float(means.max()) + 3.0
    width = 472 / len(means)

    def height(value: float) -> int:
        return round(290 - 260 * (value - low) / (high - low))

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        pygame.draw.line(surface, FAINT, (20, height(0.0)), (492, height(0.0)), 2)
        for arm, mean in enumerate(means.tolist()):
            x, half = round(20 + width * (arm + 0.5)), max(1, round(0.3 * width))
            pulled = arm == moment.action
            spread = pygame.Rect(x - half, height(mean + 1), 2 * half, height(mean - 1) - height(mean + 1))
            pygame.draw.rect(surface, PULLED if pulled else FAINT, spread, border_radius=half // 2)
            pygame.draw.line(
                surface, BLUE if pulled else DIM, (x - half, height(mean)), (x + half, height(mean)), 3
            )
            if width >= 16:
                write(surface, str(arm), (x, 306), 20, DIM)
            if pulled:
                pygame.draw.circle(surface, GOLD, (x, height(moment.reward)), 7)

    return Panel((512, 320), paint, "Bandit")

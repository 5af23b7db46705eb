"""The picture of a finite MDP without a geometry of its own: its states on a circle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pygame

from rl_lab.envs.drawing.canvas import Panel, write
from rl_lab.envs.drawing.colours import BLUE, FAINT, GOLD, INK, WHITE, Colour
from rl_lab.envs.drawing.picture import Moment
from rl_lab.types import Array

TRAIL: Colour = (160, 186, 234)
SHOWN_STATES = 6  # of the trail


def state_circle_panel(successors: Sequence[Array], caption: str) -> Panel:
    """Show the states on a circle, the latest of them as a line, and what can follow the current one.

    Args:
        successors: the states that can follow each of the S states, int [K] each.
        caption: the title of the window.
    """
    num_states = len(successors)
    angles = 2 * np.pi * np.arange(num_states) / num_states
    places = [(round(256 + 210 * math.sin(a)), round(256 - 210 * math.cos(a))) for a in angles]
    radius = max(3, min(20, 600 // num_states))

    def paint(surface: pygame.Surface, moment: Moment) -> None:
        for successor in successors[moment.state]:
            pygame.draw.aaline(surface, GOLD, places[moment.state], places[successor])
        past = [places[state] for state in list(moment.trail)[-SHOWN_STATES:]]
        if len(past) > 1:
            pygame.draw.lines(surface, TRAIL, False, past, 3)
        for state, place in enumerate(places):
            current = state == moment.state
            pygame.draw.circle(surface, BLUE if current else FAINT, place, radius)
            if radius >= 10:
                write(surface, str(state), place, radius + 4, WHITE if current else INK)
        write(surface, f"step {moment.steps}   reward {moment.reward:+.2f}", (256, 256), 26)

    return Panel((512, 512), paint, caption)

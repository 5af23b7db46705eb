"""Draws beneath a frame what happened so far, what the policy thinks, and what it does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import gymnasium
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation.frames import Moment
from rl_lab.explanation.names import action_names
from rl_lab.types import Array

MOST_BARS = 24  # actions; of more, the chosen one alone is named
BARS_IN_A_COLUMN = 6  # more are drawn in two columns
FONT_PIXELS, LINE_PIXELS, MARGIN_PIXELS = 12, 17, 6
LEAST_WIDTH = 220  # of the panel, and so of the picture
BACKGROUND, TEXT, BAR, CHOSEN = (24, 26, 31), (232, 234, 237), (92, 108, 134), (255, 170, 60)


class Overlay:
    """Puts a panel beneath frames: step and return, and bars of values or probabilities, the chosen action marked.

    Args:
        action_names: of Discrete actions, in the order of the bars; () for other spaces.
        first_action: of a Discrete space.
    """

    def __init__(self, action_names: Sequence[str] = (), first_action: int = 0):
        self._names, self._first = tuple(action_names), first_action
        self._bars = len(self._names) if len(self._names) <= MOST_BARS else 0

    def draw(self, frame: Array, moment: Moment, caption: str = "") -> Array:
        """Return the frame uint8 [H, W, 3] with the panel beneath it; all frames of a film get equal sizes.

        Args:
            frame: the moment's, perhaps in another size.
            caption: begins the panel's first line.
        """
        picture = _widened(as_rgb(frame))
        panel = Image.new("RGB", (picture.shape[1], self._height(picture.shape[1])), BACKGROUND)
        draw = ImageDraw.Draw(panel)
        self._draw_lines(draw, panel.width, moment, caption)
        if self._bars and (values := bar_values(moment)) is not None:
            self._draw_bars(draw, panel.width, values, moment)
        return np.concatenate([picture, np.asarray(panel)])

    def _height(self, width: int) -> int:
        rows = -(-self._bars // self._columns(width))
        return (2 + rows) * LINE_PIXELS + 2 * MARGIN_PIXELS

    def _columns(self, width: int) -> int:
        return 2 if self._bars > BARS_IN_A_COLUMN and width >= LEAST_WIDTH else 1

    def _draw_lines(self, draw: Any, width: int, moment: Moment, caption: str) -> None:
        first = f"step {moment.step}   return {moment.return_:.6g}"
        lines = (f"{caption}   {first}" if caption else first, self._doing(moment))
        for row, line in enumerate(lines):
            draw.text((MARGIN_PIXELS, MARGIN_PIXELS + row * LINE_PIXELS), fitting(line, width), TEXT, font())

    def _doing(self, moment: Moment) -> str:
        """Return in words what is done at a moment."""
        if moment.terminated or moment.truncated:
            return "terminated" if moment.terminated else "truncated"
        if moment.action is None:
            return "cut off"
        value = moment.figures.get("value")
        estimate = "" if value is None else f"   value {float(value):.4g}"
        return f"action {self._named(moment.action)}{estimate}"

    def _named(self, action: Array) -> str:
        if np.ndim(action) == 0 and 0 <= (index := int(action) - self._first) < len(self._names):
            return self._names[index]
        return np.array2string(np.asarray(action), precision=2, separator=" ", threshold=8)

    def _draw_bars(self, draw: Any, width: int, values: Array, moment: Moment) -> None:
        columns = self._columns(width)
        rows, wide = -(-self._bars // columns), width // columns
        lengths = bar_lengths(values, "probabilities" in moment.figures)
        chosen = None if moment.action is None else int(moment.action) - self._first
        named = max(int(font().getlength(name)) for name in self._names) + 8
        for index, (name, value) in enumerate(zip(self._names, values, strict=True)):
            left = MARGIN_PIXELS + index // rows * wide
            top = MARGIN_PIXELS + (2 + index % rows) * LINE_PIXELS
            ink = CHOSEN if index == chosen else TEXT
            label = min(named, wide // 3)
            draw.text((left, top), fitting(name, label + MARGIN_PIXELS), ink, font())
            number = "illegal" if np.isneginf(value) else f"{value:.4g}"
            number_width = 52
            room = wide - label - number_width - 2 * MARGIN_PIXELS
            length = max(1, round(lengths[index] * room))
            box = (left + label, top + 3, left + label + length, top + LINE_PIXELS - 4)
            draw.rectangle(box, fill=CHOSEN if index == chosen else BAR)
            draw.text((left + label + max(room, 0) + 4, top), number, ink, font())


def bar_values(moment: Moment) -> Array | None:
    """Return the values or probabilities behind a choice, [A]; None if there are none."""
    for name in ("probabilities", "q_values"):
        if name in moment.figures and np.ndim(moment.figures[name]) == 1:
            return np.asarray(moment.figures[name], np.float64)
    return None


def bar_lengths(values: Array, are_probabilities: bool) -> Array:
    """Return lengths of bars in [0, 1], float64 [A].

    Probabilities are their own lengths. Values are spread from the least (0) to the greatest (1) of the legal ones,
    whose differences are what matters; illegal ones (-inf) have 0.
    """
    if are_probabilities:
        return np.clip(values, 0.0, 1.0)
    legal = np.isfinite(values)
    if not legal.any():
        return np.zeros(len(values))
    low, high = values[legal].min(), values[legal].max()
    spread = np.where(legal, (values - low) / (high - low), 0.0) if high > low else legal.astype(float)
    return np.nan_to_num(spread)


def bar_names(env: gymnasium.Env) -> list[str]:
    """Return the names of an environment's Discrete actions, one for each bar; [] for other spaces."""
    return action_names(env) if isinstance(env.action_space, gymnasium.spaces.Discrete) else []


def captioned(frame: Array, text: str) -> Array:
    """Return the frame uint8 [H, W, 3] with a line of text above it."""
    picture = _widened(as_rgb(frame))
    strip = Image.new("RGB", (picture.shape[1], LINE_PIXELS + MARGIN_PIXELS), BACKGROUND)
    ImageDraw.Draw(strip).text((MARGIN_PIXELS, 3), fitting(text, strip.width), TEXT, font())
    return np.concatenate([np.asarray(strip), picture])


@cache
def font() -> Any:
    """Return the font of all text."""
    return ImageFont.load_default(FONT_PIXELS)


def fitting(text: str, width: int) -> str:
    """Return the text, with its end left out if it is wider than so many pixels less margins."""
    room = width - 2 * MARGIN_PIXELS
    if font().getlength(text) <= room:
        return text
    while text and font().getlength(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


def _widened(picture: Array) -> Array:
    """Return a picture [H, W, 3] with the background at both sides of it if it is narrower than the panel needs."""
    missing = max(0, LEAST_WIDTH - picture.shape[1])
    if not missing:
        return picture
    height, left = picture.shape[0], missing // 2
    wide = np.empty((height, LEAST_WIDTH, 3), np.uint8)
    wide[:] = BACKGROUND
    wide[:, left : left + picture.shape[1]] = picture
    return wide

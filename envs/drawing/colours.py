"""The palette of all pictures."""

from __future__ import annotations

Colour = tuple[int, int, int]
"""Red, green and blue, 0..255 each."""

WHITE: Colour = (255, 255, 255)
PAPER: Colour = (250, 247, 240)
SAND: Colour = (236, 231, 220)
FAINT: Colour = (226, 219, 206)
DIM: Colour = (110, 116, 128)
INK: Colour = (62, 68, 81)
BLUE: Colour = (58, 112, 214)
GREEN: Colour = (76, 175, 120)
RED: Colour = (196, 78, 72)
GOLD: Colour = (236, 179, 60)
PURPLE: Colour = (154, 104, 188)
TEAL: Colour = (84, 168, 180)

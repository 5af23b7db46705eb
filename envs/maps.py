"""Maps of cells as text, apart from their pictures: walls and starts, the states, and where a move leads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from rl_lab.envs.checks import require_finite
from rl_lab.types import Array

MAPS = {
    "default": """
        S.......
        ..#.....
        ..#..P..
        ..#.....
        .....#..
        .P...#..
        .....#P.
        .......G
    """,
    "corridor": """
        S......G
    """,
    "cliff": """
        ............
        ............
        ............
        SPPPPPPPPPPG
    """,
    "four_rooms": """
        #############
        #S....#.....#
        #.....#.....#
        #...........#
        #.....#.....#
        #.....#.....#
        ##.####.....#
        #.....###.###
        #.....#.....#
        #.....#.....#
        #...........#
        #.....#....G#
        #############
    """,
}
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left; adjacent ones are perpendicular
KNOWN_LETTERS = "#SGP. "


@dataclass(frozen=True)
class Grid:
    """A map whose states are the cells that aren't walls, numbered row by row."""

    lines: tuple[str, ...]
    """Rows of equal length, top first."""

    @cached_property
    def letters(self) -> Array:
        """The character of each cell, str [rows, columns]."""
        return np.array([list(line) for line in self.lines])

    @cached_property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return np.argwhere(self.letters != "#")

    @cached_property
    def state_letters(self) -> Array:
        """The character under each state, str [S]."""
        return self.letters[self.cells[:, 0], self.cells[:, 1]]

    @cached_property
    def neighbours(self) -> Array:
        """The state that each of the four moves leads to, int64 [S, 4]; walls and the border block a move."""
        height, width = self.letters.shape
        index = np.full((height + 2, width + 2), -1)
        index[self.cells[:, 0] + 1, self.cells[:, 1] + 1] = np.arange(len(self.cells))
        target = self.cells[:, None, :] + MOVES + 1  # [S, 4, 2]
        reached = index[target[..., 0], target[..., 1]]
        return np.where(reached >= 0, reached, np.arange(len(self.cells))[:, None])


@dataclass(frozen=True)
class Board(Grid):
    """A map whose states are all its cells, numbered row by row.

    Walls count, so that a cell keeps its number when a wall is moved.
    """

    labels: Mapping[int, str] = field(default_factory=dict)
    """Text that is written on some cells, by state."""

    @cached_property
    def cells(self) -> Array:
        """(row, column) of each state, int64 [S, 2]."""
        return np.argwhere(np.ones(self.letters.shape, dtype=bool))

    @cached_property
    def neighbours(self) -> Array:
        """The state that each of the four moves leads to, int64 [S, 4]; walls and the border block a move."""
        return self.shift(MOVES)

    def shift(self, moves: Array) -> Array:
        """Return the states int64 [S, M] that moves lead to.

        The border cuts a move short in each direction separately; a move that would end in a wall doesn't happen.

        Args:
            moves: (rows, columns) of each move, int [M, 2], or [S, M, 2] where they differ between states.
        """
        height, width = self.letters.shape
        target = self.cells[:, None, :] + moves  # [S, M, 2]
        row, column = np.clip(target[..., 0], 0, height - 1), np.clip(target[..., 1], 0, width - 1)
        blocked = self.letters[row, column] == "#"
        return np.where(blocked, np.arange(len(self.cells))[:, None], row * width + column)

    def find(self, letters: str) -> Array:
        """Return the states int64 [K] on which any of these characters stands."""
        return np.flatnonzero(np.isin(self.state_letters, list(letters)))


def parse_map(text: str, rewards: Mapping[str, float]) -> Grid:
    """Return the map with a name of `MAPS`, or the map that is drawn in a text.

    Raises:
        ValueError: no text, an unknown name or character, rows of different lengths, or no start.
    """
    if not isinstance(text, str):
        raise ValueError(f"map {text!r} must be a text: one of {sorted(MAPS)} or the rows of a map")
    known = KNOWN_LETTERS + "".join(rewards)
    if text not in MAPS and "\n" not in text and not set(text) <= set(known):
        raise ValueError(f"map {text!r} must be one of {sorted(MAPS)} or rows of {known!r}")
    lines = _cut_margin(MAPS.get(text, text))
    unknown = sorted(set("".join(lines)) - set(known))
    if unknown:
        raise ValueError(f"map has the character {unknown[0]!r}, which must be one of {known!r}")
    ragged = [number for number, line in enumerate(lines, 1) if len(line) != len(lines[0])]
    if ragged:
        length = len(lines[ragged[0] - 1])
        raise ValueError(
            f"map row {ragged[0]} has {length} cells and must have {len(lines[0])} like the first"
        )
    if not any("S" in line for line in lines):
        raise ValueError(f"map {lines} has no start and must have at least one 'S'")
    return Grid(tuple(lines))


def _cut_margin(text: str) -> list[str]:
    """Return the rows of an indented block of text; spaces within the block are floor."""
    lines = text.split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    margin = min((len(line) - len(line.lstrip(" ")) for line in lines), default=0)
    return [line[margin:] for line in lines]


def check_rewards(rewards: Mapping[str, float]) -> dict[str, float]:
    """Return the rewards of entering a cell, by its character.

    Raises:
        ValueError: a key that isn't one character without a meaning of its own, or a reward that isn't finite.
    """
    if not isinstance(rewards, Mapping):
        raise ValueError(f"rewards {rewards!r} must be numbers by character")
    for letter in rewards:
        if not isinstance(letter, str) or len(letter) != 1 or letter in KNOWN_LETTERS + "\n":
            raise ValueError(f"rewards key {letter!r} must be one character other than {KNOWN_LETTERS!r}")
    return {letter: require_finite(f"rewards of {letter!r}", reward) for letter, reward in rewards.items()}

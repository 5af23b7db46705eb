"""Maps: how they are read, and how their cells are connected."""

from __future__ import annotations

import numpy as np

from rl_lab.envs.maps import Board, Grid, parse_map


class TestBoard:
    def test_counts_walls_as_cells_that_hold_back(self):
        board = Board((".#", ".."))
        assert board.neighbours.tolist() == [[0, 0, 2, 0], [1, 1, 3, 0], [0, 3, 2, 2], [3, 3, 3, 2]]

    def test_cuts_longer_moves_short_at_the_border(self):
        board = Board(("...", "..."))
        assert board.shift(np.array([(0, 2), (-1, 1)])).tolist() == [
            [2, 1], [2, 2], [2, 2], [5, 1], [5, 2], [5, 2]
        ]  # fmt: skip

    def test_finds_characters(self):
        assert Board(("S#", "PG")).find("SG").tolist() == [0, 3]


class TestGrid:
    def test_numbers_only_the_cells_that_are_no_walls(self):
        grid = Grid((".#", ".."))
        assert grid.cells.tolist() == [[0, 0], [1, 0], [1, 1]]
        assert grid.neighbours.tolist() == [[0, 0, 1, 0], [0, 2, 1, 1], [2, 2, 2, 1]]


class TestParseMap:
    def test_cuts_the_margin_and_keeps_spaces_within(self):
        assert parse_map("\n    S 1\n    #.G\n  ", {"1": 2.0}).lines == ("S 1", "#.G")

    def test_knows_maps_by_name(self):
        assert parse_map("corridor", {}).lines == ("S......G",)

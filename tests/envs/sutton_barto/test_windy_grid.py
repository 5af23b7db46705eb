"""The windy grid world: the book's path, shortest paths, and the stochastic wind by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tabular_envs import DOWN, LEFT, RIGHT, best_return, make, model_of, play


class TestWindyGrid:
    @pytest.mark.parametrize(("moves", "steps"), [(4, 15), (8, 7), (9, 7)])
    def test_shortest_way(self, moves, steps):
        assert best_return(model_of("WindyGrid", moves=moves)) == pytest.approx(-steps)

    def test_the_way_of_the_book(self):
        """Right along the row and beyond the goal, down the calm column, and back (example 6.5)."""
        seen, total, terminated = play(make("WindyGrid"), [RIGHT] * 9 + [DOWN] * 4 + [LEFT] * 2)
        assert (total, terminated) == (-15, True)
        assert [divmod(s, 10) for s in seen[4:]] == [
            (2, 4), (1, 5), (0, 6), (0, 7), (0, 8), (0, 9), (1, 9), (2, 9), (3, 9), (4, 9), (4, 8), (3, 7)
        ]  # fmt: skip

    def test_stochastic_wind_by_hand(self):
        """Right out of column 3 (wind 1): lifted by 0, 1 or 2 cells, cut at the border."""
        model = model_of("WindyGrid", stochastic=True)
        onward = model.continuation.toarray().reshape(70, 4, 70)
        third = 1 / 3
        assert {int(s): onward[13, RIGHT, s] for s in np.flatnonzero(onward[13, RIGHT])} == pytest.approx(
            {14: third, 4: 2 * third}
        )
        assert onward[10, RIGHT, 11] == pytest.approx(1.0)  # no wind, no gust

"""The gambler's problem of example 4.3."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rl_lab.envs.checks import require_number, require_whole
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv, end_rows, spread_evenly
from rl_lab.mdp.model import TabularModel

GOAL = 100
MAX_STAKE = GOAL // 2


class Gambler(TabularEnv):
    """Stake capital on coin flips until it is lost or has grown to 100, which pays 1.

    The state is the capital, 0..100, and the action is the stake, 0..50. Stakes from 1 to min(capital,
    100 - capital) are available; a larger one counts as the largest of these. The book also allows stake 0, but
    it changes nothing and, undiscounted, only adds policies that never end: here it is unavailable, and leaves the
    capital as it is. `p_heads` is the probability of winning the stake. The book names no start: each capital in
    1..99 is equally likely unless `start` is given. Undiscounted.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 4.3 (figure 4.3).
    """

    def __init__(
        self, *, p_heads: float = 0.4, start: int | None = None, render_mode: str | None = None
    ) -> None:
        """Make the environment. Raises ValueError unless 0 < `p_heads` < 1 and `start` is None or in 1..99."""
        if not 0.0 < require_number("p_heads", p_heads, "above 0 and below 1") < 1.0:
            raise ValueError(f"p_heads {p_heads} must be above 0 and below 1")
        start = None if start is None else require_whole("start", start, 1, GOAL - 1)
        super().__init__(_make_model(p_heads, start), render_mode=render_mode)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return [f"stake {k}" for k in range(MAX_STAKE + 1)]

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.sutton_barto_panels import gambler_panel

        return gambler_panel(GOAL)


@lru_cache(maxsize=8)
def _make_model(p_heads: float, start: int | None) -> TabularModel:
    capital, stake = (index.ravel() for index in np.indices((GOAL + 1, MAX_STAKE + 1)))
    most = np.minimum(capital, GOAL - capital)
    placed = np.minimum(stake, most)
    parts = [end_rows(np.array([0, GOAL]), MAX_STAKE + 1)]
    for sign, chance in ((1, p_heads), (-1, 1.0 - p_heads)):
        target = capital + sign * placed
        ends = (target == 0) | (target == GOAL)
        share = np.full(len(target), chance)
        rows = np.column_stack((capital, stake, share, target, target == GOAL, ends))
        parts.append(rows[most > 0])
    available = ((stake > 0) & (stake <= most)) | (most == 0)
    starts = np.arange(1, GOAL) if start is None else np.array([start])
    return TabularModel.from_outcomes(
        np.concatenate(parts),
        GOAL + 1,
        MAX_STAKE + 1,
        spread_evenly(starts, GOAL + 1),
        available.reshape(GOAL + 1, MAX_STAKE + 1),
    )

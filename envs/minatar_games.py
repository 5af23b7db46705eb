"""MinAtar's games. Importing this module registers their ids, MinAtar/Breakout-v1 and so on, with Gymnasium.

Young & Tian (2019), "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement Learning
Experiments", https://arxiv.org/abs/1903.03176. The versions v0 have all six actions, as in the paper, the versions v1
only those that do something in a game.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from minatar.gym import BaseEnv

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
NO_ACTION = 0  # what a new game takes for the action before its first
ENLARGED = 20  # pixels along each side of a cell


class MinAtarGame(BaseEnv):
    """A game of MinAtar whose episodes depend on their seeds and actions alone, with pictures that one can watch.

    MinAtar's own keeps the last action over a reset, and the first action of an episode may be replaced by it.
    """

    frames_per_step = 1
    metadata = {"render_modes": ["human", "array", "rgb_array"], "render_fps": 15}  # noqa: RUF012

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode as a new game does."""
        self.game.last_action = NO_ACTION
        return super().reset(seed=seed, options=options)

    def render(self) -> Any:
        """Return the picture, uint8 [200, 200, 3], in mode "rgb_array"; otherwise what MinAtar does."""
        shown = super().render()
        if self.render_mode != "rgb_array":
            return shown
        pixels = np.rint(255 * np.asarray(shown)).astype(np.uint8)
        return pixels.repeat(ENLARGED, 0).repeat(ENLARGED, 1)


def _register(game: str, version: int) -> None:
    gymnasium.register(
        id=f"MinAtar/{game.title().replace('_', '')}-v{version}",
        entry_point="rl_lab.envs.minatar_games:MinAtarGame",
        kwargs={"game": game, "use_minimal_action_set": version == 1},
    )


for _game in GAMES:
    for _version in (0, 1):
        _register(_game, _version)

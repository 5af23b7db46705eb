"""Labelled examples as an environment: the action is the answer, and the right one pays."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rl_lab.datasets.dataset import Dataset, RecordedEpisode
from rl_lab.datasets.supervised import examples
from rl_lab.envs.checks import require_render_mode
from rl_lab.envs.drawing.arrays import draw_array
from rl_lab.trees import map_leaves
from rl_lab.types import Array

XOR_INPUTS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.float32)
XOR_LABELS = np.array([0, 1, 1, 0])


class LabelledExamples(gymnasium.Env):
    """Show recorded episodes; the recorded action earns the recorded reward, any other action earns nothing.

    No action changes what is shown. `path` is a folder written by `rl_lab.datasets.supervised.write_examples`. The
    return of an episode is then the number of labels that were answered correctly, and with one label per example
    the mean return is the accuracy. An agent that learns from one folder and is evaluated on another is judged by
    examples that it has never seen. Seed s shows example s modulo their number. Without a path the examples are
    exclusive or, which no linear classifier can learn.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, path: str | None = None, render_mode: str | None = None) -> None:
        """Open the folder.

        Raises:
            UsageError: the folder holds no dataset.
            ValueError: a render mode other than None and "rgb_array".
        """
        self.render_mode = require_render_mode(render_mode, self.metadata)
        if path is None:
            self.observation_space, self.action_space, self._episodes = examples(XOR_INPUTS, XOR_LABELS)
            self._dataset, self.num_examples = None, len(XOR_INPUTS)
        else:
            self._dataset = Dataset(path)
            self.observation_space = self._dataset.observation_space
            self.action_space = self._dataset.action_space
            self.num_examples = self._dataset.num_episodes
        self._episode, self._step = self._read(0), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Show the first step of an example: number `seed` modulo their number, or one drawn at random."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(self.num_examples)) if seed is None else seed % self.num_examples
        self._episode, self._step = self._read(number), 0
        return self._see(), self._inform()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Pay if the action is the recorded one, and show the next step."""
        episode, t = self._episode, self._step
        reward = float(episode.rewards[t]) if np.array_equal(action, episode.actions[t]) else 0.0
        self._step = t + 1
        over = self._step == len(episode)
        terminated = bool(episode.terminations[t])
        return self._see(), reward, terminated, over and not terminated, self._inform()

    def render(self) -> Array | None:
        """Return the observation as grey squares uint8 [H, W, 3]; return None without a render mode."""
        return None if self.render_mode is None else draw_array(self._see())

    def close(self) -> None:
        """Close the folder's file."""
        if self._dataset is not None:
            self._dataset.close()

    def _read(self, number: int) -> RecordedEpisode:
        return self._episodes[number] if self._dataset is None else self._dataset.episode(number)

    def _see(self) -> Any:
        return map_leaves(lambda leaf: leaf[self._step].copy(), self._episode.observations)

    def _inform(self) -> dict:
        masks = self._episode.masks
        return {} if masks is None else {"action_mask": masks[self._step].astype(np.int8)}

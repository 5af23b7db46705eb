"""Labelled examples as an environment: say what each is."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rl_lab.datasets.dataset import Dataset, RecordedEpisode
from rl_lab.datasets.supervised import examples
from rl_lab.types import Array

LENGTH = 96  # pixels of a picture's shorter side, about


class Examples(gymnasium.Env):
    """Shows recorded episodes whatever is done; the recorded action pays what it was paid, any other nothing.

    `path` is a folder that `rl_lab.datasets.supervised.write_examples` wrote: the return of an episode is then the
    number of labels that were met, and their mean over single-label examples is the accuracy. A run that
    learns from one folder and plays another is judged by examples that it never saw. The seed s shows
    example s modulo their number. Without a path it is exclusive or, which no linear classifier learns.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 2}  # noqa: RUF012

    def __init__(self, path: str | None = None, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        if path is None:
            corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], np.float32)
            self.observation_space, self.action_space, self._kept = examples(corners, np.array([0, 1, 1, 0]))
            self._dataset, self.num_examples = None, len(corners)
        else:
            self._dataset = Dataset(path)
            self.observation_space = self._dataset.observation_space
            self.action_space = self._dataset.action_space
            self.num_examples = self._dataset.num_episodes
        self._episode, self._at = self._example(0), 0

    def _example(self, number: int) -> RecordedEpisode:
        return self._kept[number] if self._dataset is None else self._dataset.episode(number)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """Show the first step of an example."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(self.num_examples)) if seed is None else seed % self.num_examples
        self._episode, self._at = self._example(number), 0
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Pay if the action is the recorded one, and show the next step."""
        episode, t = self._episode, self._at
        reward = float(episode.rewards[t]) if np.array_equal(action, episode.actions[t]) else 0.0
        self._at = t + 1
        over = self._at == len(episode)
        terminated = bool(episode.terminations[t])
        return (self._seen()[0], reward, terminated, over and not terminated, self._seen()[1])

    def _seen(self) -> tuple[Any, dict]:
        episode = self._episode
        obs = _at(episode.observations, self._at)
        return obs, {} if episode.masks is None else {"action_mask": episode.masks[self._at].astype(np.int8)}

    def render(self) -> Array | None:
        """Return the observation as grey squares uint8 [H, W, 3], row by row, in a frame."""
        if self.render_mode != "rgb_array":
            return None
        shown = _flat(_at(self._episode.observations, self._at))
        span = float(np.ptp(shown)) or 1.0
        grey = (230 * (shown - shown.min()) / span).astype(np.uint8)
        block = max(1, LENGTH // max(1, min(grey.shape)) if max(grey.shape) <= LENGTH else 1)
        large = np.kron(grey, np.ones((block, block), np.uint8))
        return np.repeat(np.pad(large, 4, constant_values=255)[..., None], 3, axis=2)

    def close(self) -> None:
        """Close the data file."""
        if self._dataset is not None:
            self._dataset.close()


def _at(tree: Any, t: int) -> Any:
    """Return step t of a tree of arrays [T, ...]."""
    if isinstance(tree, dict):
        return {key: _at(part, t) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_at(part, t) for part in tree)
    return tree[t].copy()


def _flat(obs: Any) -> Array:
    """Return an observation as a picture [H, W]: images channel beside channel, everything else as a row."""
    if isinstance(obs, dict | tuple):
        parts = obs.values() if isinstance(obs, dict) else obs
        return np.concatenate([np.asarray(_flat(part), np.float64).reshape(1, -1) for part in parts], axis=1)
    array = np.asarray(obs, np.float64)
    return array.reshape(len(array), -1) if array.ndim >= 2 else array.reshape(1, -1)

"""Watching a trained policy: its episodes as frames, into a video or a window."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.make import make_env
from rl_lab.evaluation.evaluate import evaluation_seed, record
from rl_lab.evaluation.video import LiveWindow, VideoWriter
from rl_lab.runs.config import RunConfig
from rl_lab.runs.rows import read_actions, read_episodes

FPS = 30.0  # where an environment doesn't say
MAX_FRAMES = 3_000  # of one episode


def frames(
    policy: Policy, config: RunConfig, seeds: list[int], actions: list[np.ndarray] | None = None
) -> Iterator[np.ndarray]:
    """Yield the rendered frames of one episode per seed.

    Args:
        config: of the run; it says which environment.
        actions: replays these instead of asking the policy, one array an episode.
    """
    return record(policy, lambda: _rendering_env(config), seeds=seeds, max_steps=MAX_FRAMES, actions=actions)


def show(
    policy: Policy,
    config: RunConfig,
    folder: Path,
    files: list[Path],
    windows: list[LiveWindow],
    episodes: int,
    seed: int | None = None,
    training_episode: int | None = None,
) -> int:
    """Show episodes to video files and windows; return the number of frames."""
    base = config.seed if seed is None else seed
    seeds, actions = [evaluation_seed(base, e) for e in range(episodes)], None
    if training_episode is not None:
        seeds, actions = _training_episode(config, folder, training_episode)
    count = 0
    with ExitStack() as stack:
        fps = frames_per_second(config)
        sinks: list[Any] = [*windows, *(VideoWriter(file, fps) for file in files)]
        for sink in sinks:
            stack.enter_context(sink)
        for frame in frames(policy, config, seeds, actions):
            count += 1
            wanted = [sink.add(frame) for sink in sinks]  # every sink gets the frame
            if not all(wanted):
                break
    return count


def _training_episode(config: RunConfig, folder: Path, row: int) -> tuple[list[int], list[np.ndarray]]:
    """Return seed and actions of the training episode in a row of episodes.csv."""
    env = _rendering_env(config)
    try:
        actions = read_actions(folder, row, env.action_space)
    finally:
        env.close()
    return [int(read_episodes(folder)[row]["seed"])], [actions]


def film(path: Path, policy: Policy, config: RunConfig, episodes: int) -> str | None:
    """Film evaluation episodes into `path`; return why there is no film, or None."""
    try:
        seeds = [evaluation_seed(config.seed, e) for e in range(episodes)]
        with VideoWriter(path, frames_per_second(config)) as writer:
            for frame in frames(policy, config, seeds):
                writer.add(frame)
    except Exception as error:  # a renderer may raise anything, and no film is worth a run
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def frames_per_second(config: RunConfig) -> float:
    """Return the speed at which the environment is meant to be watched."""
    env = _rendering_env(config)
    try:
        return float(env.metadata.get("render_fps") or FPS)
    finally:
        env.close()


def live_window(fps: float, title: str) -> LiveWindow:
    """Open a window; without a display pygame's dummy driver takes the frames."""
    _without_display()
    return LiveWindow(fps, title)


def _without_display() -> None:
    """Let SDL draw into memory where there is no screen, instead of complaining."""
    if os.name == "posix" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def _rendering_env(config: RunConfig) -> gymnasium.Env:
    _without_display()
    return make_env(
        config.env_id,
        config.env_kwargs,
        preprocess=config.preprocess,
        render_mode="rgb_array",
    )

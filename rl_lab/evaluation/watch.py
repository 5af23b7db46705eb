"""Films the episodes of a policy, and makes what shows them: the environment that renders, and windows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.ending import ending
from rl_lab.environments.make import make_env
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.evaluation.frames import rendered_frames
from rl_lab.evaluation.video import LiveWindow, VideoWriter
from rl_lab.runs.config import RunConfig
from rl_lab.storage.errors import NotWritten
from rl_lab.types import EnvironmentFault, UsageError

FPS = 30.0  # if an environment doesn't declare its own
WATCHED_STEPS = 3_000  # of one episode, where somebody asks to see it ...
FILMED_STEPS = 1_000  # ... and in the film at the end of a run, for which nobody wants to wait


def episode_frames(
    policy: Policy,
    config: RunConfig,
    seeds: list[int],
    actions: list[np.ndarray] | None = None,
    *,
    max_steps: int = WATCHED_STEPS,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> Iterator[np.ndarray]:
    """Yield the rendered frames uint8 [H, W, 3] of one episode per seed.

    Args:
        config: the run's, which says what environment to make.
        actions: one array [length, ...] per episode, replayed instead of asking the policy.
        max_steps: limit on the steps of each episode.
        on_cut: called with the limit for each episode that was cut there.
    """
    return rendered_frames(
        policy,
        lambda: rendering_env(config),
        seeds=seeds,
        max_steps=max_steps,
        actions=actions,
        on_cut=on_cut,
    )


def film(
    path: Path,
    policy: Policy,
    config: RunConfig,
    episodes: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> str | None:
    """Film the first FILMED_STEPS of evaluation episodes to `path`; return in a line what is missing, or None.

    Args:
        should_stop: asked at every step; the film ends where it says so.
    """
    cut: list[int] = []
    seeds = [evaluation_seed(config.seed, e) for e in range(episodes)]
    frames = 0
    try:
        with VideoWriter(path, frames_per_second(config)) as writer:
            for frame in episode_frames(policy, config, seeds, max_steps=FILMED_STEPS, on_cut=cut.append):
                writer.add(frame)
                frames = writer.frames
                if should_stop():
                    return f"{path.name} ends after {frames} frames, where the run was asked to stop"
    except NotWritten as error:
        return f"no video: {error}"
    except Exception as error:  # a renderer may raise anything, and no film is worth losing a run
        said = str(error) if isinstance(error, EnvironmentFault) else f"{type(error).__name__}: {error}"
        cause = " ".join(said.split()).removesuffix(":")
        return f"{path.name} ends after {frames} frames: {cause}" if frames else f"no video: {cause}"
    if not cut:
        return None
    which = "the episode" if episodes == 1 else f"{len(cut)} of {episodes} episodes"
    return (
        f"{path.name} ends after {FILMED_STEPS} steps of {which} (rl-lab watch shows up to {WATCHED_STEPS})"
    )


def frames_per_second(config: RunConfig) -> float:
    """Return the frame rate at which the environment is meant to be watched."""
    with ending(rendering_env(config)) as env:
        return float(env.metadata.get("render_fps") or FPS)


def require_display() -> None:
    """Check that a window can be shown; SDL_VIDEODRIVER is taken as it is, since whoever sets it knows the display.

    Raises:
        UsageError: there is no display.
    """
    if not sys.platform.startswith("linux") or os.environ.get("SDL_VIDEODRIVER"):
        return
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise UsageError(
            "--human: nothing was shown, there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
            " (allowed: --video F.mp4 or --gif F.gif)"
        )


def live_window(fps: float, title: str) -> LiveWindow:
    """Make a window.

    Raises:
        UsageError: the display can't be opened.
    """
    import pygame

    try:
        pygame.display.init()
    except pygame.error as error:
        driver = os.environ.get("SDL_VIDEODRIVER")
        named = f"SDL_VIDEODRIVER {driver!r}" if driver else f"DISPLAY {os.environ.get('DISPLAY')!r}"
        raise UsageError(
            f"--human: nothing was shown, {named} can't be opened: {error}"
            " (allowed: --video F.mp4 or --gif F.gif)"
        ) from error
    return LiveWindow(fps, title)


def shows_nothing() -> bool:
    """Return whether the video driver that was asked for draws into memory only, where nobody sees it."""
    return os.environ.get("SDL_VIDEODRIVER") in ("dummy", "offscreen")


def _allow_no_display() -> None:
    """Let SDL draw into memory if there is no screen, where it would raise an error."""
    if os.name == "posix" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")


def rendering_env(config: RunConfig) -> gymnasium.Env:
    """Make a run's environment, which renders pictures uint8 [H, W, 3]; no screen is needed for it."""
    _allow_no_display()
    return make_env(config.env_id, **config.env_arguments, render_mode="rgb_array")

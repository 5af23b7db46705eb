"""The command that shows a trained agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.types import UsageError


@dataclass(frozen=True)
class WatchOptions:
    """What watch.py takes."""

    run_dir: tyro.conf.Positional[str]
    """Run directory to watch."""
    human: bool = False
    """Show a live window."""
    video: str | None = None
    """Write an mp4; without any of the three to RUN_DIR/videos/watch.mp4."""
    gif: str | None = None
    """Write a GIF."""
    episodes: int = 1
    """Episodes to watch."""
    seed: int | None = None
    """Seed of the episodes; by default the run's, whose evaluation episodes are shown."""
    best: bool = False
    """Watch the checkpoint with the best evaluation instead of the last."""
    training_episode: int | None = None
    """Show the training episode in this row of episodes.csv (from 0) exactly as it happened."""


def watch(argv: Sequence[str]) -> int:
    """Watch a trained agent; the command behind scripts/watch.py."""
    from rl_lab.evaluation.watch import frames_per_second, live_window, show
    from rl_lab.runs.description import read_description
    from rl_lab.training.loading import load_policy

    options: WatchOptions = parse(WatchOptions, argv, description="Watch a trained agent.")
    if options.episodes < 1:
        raise UsageError(f"episodes must be at least 1, got {options.episodes}")
    folder = Path(options.run_dir)
    description = read_description(folder)
    config = description.config
    if options.training_episode is not None and config.dataset:
        raise UsageError(
            f"--training-episode {options.training_episode}: the run played none, it learned from dataset"
            f" {config.dataset!r} (allowed: without it)"
        )
    policy = load_policy(folder, best=options.best)
    if options.gif is not None and not options.gif.lower().endswith(".gif"):
        raise UsageError(f"--gif {options.gif!r} must end in .gif")
    files = [Path(f) for f in (options.video, options.gif) if f is not None]
    if not files and not options.human:
        files = [folder / "videos" / "watch.mp4"]
    fps = frames_per_second(config)
    window = [live_window(fps, f"{description.agent} on {config.env_id}")] if options.human else []
    count = show(
        policy, config, folder, files, window, options.episodes, options.seed, options.training_episode
    )
    print(f"{count} frames" + "".join(f", {f}" for f in files))
    return 0

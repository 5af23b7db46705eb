"""The command that shows a trained agent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.types import UsageError

ABOUT = "Watch a trained agent play: in a live window, as an mp4 or as a GIF."


@dataclass(frozen=True)
class WatchOptions:
    """What the command takes."""

    run_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """Run directory to watch."""
    human: bool = False
    """Show a live window, instead of writing a file."""
    video: str | None = None
    """Write an mp4. This is the default, to RUN_DIR/videos/watch.mp4, if neither --human nor --gif is given."""
    gif: str | None = None
    """Write a GIF."""
    web: bool = False
    """Serve a live page for the browser; rl-lab watch --web --help lists its options."""
    episodes: int = 1
    """Episodes to watch, each up to 3000 steps."""
    seed: int | None = None
    """Seed of the episodes; by default the run's, so that they are its evaluation episodes."""
    best: bool = False
    """Watch the checkpoint with the best evaluation instead of the last."""
    training_episode: int | None = None
    """Show a training episode exactly as it happened: its row in episodes.csv, counted from 0."""


def watch(argv: Sequence[str]) -> int:
    """Show or film a trained agent; return the exit code.

    Raises:
        UsageError: a wrong option or value, no run there, an episode that the run doesn't have, no display, or a place
            where no file can be written.
        NotWritten: a film failed; what was at its place is as it was.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    if "--web" in argv:
        from rl_lab.cli.watch_web import watch_web

        return watch_web(argv)
    from rl_lab.evaluation.watch import frames_per_second, live_window, require_display, show, shows_nothing
    from rl_lab.runs.description import read_description
    from rl_lab.training.devices import set_threads
    from rl_lab.training.loading import load_policy

    options: WatchOptions = parse(WatchOptions, argv, program="rl-lab watch", about=ABOUT)
    _require_consistent(options)
    if options.human:
        require_display()  # before an environment is made that draws into memory instead
    folder = Path(options.run_dir)
    description = read_description(folder)
    config = description.config
    if options.training_episode is not None and config.dataset:
        raise UsageError(
            f"--training-episode {options.training_episode}: this run played no training episodes, it learned from"
            f" dataset {config.dataset!r} (allowed: without it)"
        )
    files = _files(options, folder)
    set_threads(config.threads)
    policy = load_policy(folder, best=options.best)
    fps = frames_per_second(config)
    window = [live_window(fps, f"{description.agent} on {config.env_id}")] if options.human else []
    cut: list[int] = []
    count = show(
        policy,
        config,
        folder,
        files,
        window,
        options.episodes,
        options.seed,
        options.training_episode,
        cut.append,
    )
    unseen = options.human and shows_nothing()
    unseen_note = f", not shown: SDL_VIDEODRIVER is {os.environ['SDL_VIDEODRIVER']}" if unseen else ""
    cut_note = f", {len(cut)} of {options.episodes} episodes cut off after {cut[0]} steps" if cut else ""
    print(f"{count} frames" + "".join(f", {f}" for f in files) + cut_note + unseen_note)
    return 0


def _require_consistent(options: WatchOptions) -> None:
    """Check options that rule each other out, so that none is ignored.

    Raises:
        UsageError: two of them are given, or there are no episodes.
    """
    if options.episodes < 1:
        raise UsageError(f"episodes must be at least 1, got {options.episodes}")
    files = {"--video": options.video, "--gif": options.gif}
    if options.human and (given := [f"{name} {file}" for name, file in files.items() if file is not None]):
        raise UsageError(
            f"--human shows a window and writes no file (allowed: without {' and '.join(given)})"
        )
    if options.training_episode is None:
        return
    replayed = f"--training-episode {options.training_episode} replays the actions of one episode"
    others = {
        f"--episodes {options.episodes}": options.episodes != 1,
        f"--seed {options.seed}": options.seed is not None,
        "--best": options.best,
    }
    if given := [option for option, is_given in others.items() if is_given]:
        raise UsageError(f"{replayed} (allowed: without {' and '.join(given)})")


def _files(options: WatchOptions, folder: Path) -> list[Path]:
    """Return the films to write.

    Raises:
        UsageError: a suffix that isn't allowed, one file for both, or a place where no file can be written.
    """
    from rl_lab.evaluation.video import require_film

    if options.gif is not None and not options.gif.lower().endswith(".gif"):
        raise UsageError(f"--gif {options.gif!r} must end in .gif")
    given = {"--video": options.video, "--gif": options.gif}
    files = [require_film(file, name) for name, file in given.items() if file is not None]
    if len({file.absolute() for file in files}) < len(files):
        raise UsageError(f"--gif {options.gif!r} is the file of --video too (allowed: two files)")
    if not files and not options.human:
        files = [require_film(folder / "videos" / "watch.mp4")]
    return files

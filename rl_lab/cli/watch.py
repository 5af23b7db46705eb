"""The command that shows an agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from rl_lab.cli.groups import Part
from rl_lab.cli.parsing import parse_parts
from rl_lab.cli.watch_checks import require_consistent
from rl_lab.types import UsageError

if TYPE_CHECKING:
    from rl_lab.watching.films import Outputs
    from rl_lab.watching.sources import Watched

ABOUT = "Watch an agent play: in a live window, as a film, or as a picture."


@dataclass(frozen=True)
class WatchOptions:
    """What the command takes."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "policy": ("run_dir", "best", "checkpoint"),
        "output": ("video", "gif", "sheet", "progress", "human", "web"),
        "episode": ("episodes", "seed", "training_episode"),
        "drawing": ("overlay", "saliency"),
        "runless policy": ("env_id", "env_kwargs", "algo", "statistics", "trust_pickles"),
    }

    run_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """Run directory to watch. With --env-id, a model.zip that SB3 saved, or the word random."""
    human: bool = False
    """Show a live window, instead of writing a file."""
    video: str | None = None
    """Write an mp4. This is the default, to RUN_DIR/videos/watch.mp4, if no other output is given."""
    gif: str | None = None
    """Write a GIF, of at most 320 pixels a side unless --overlay is given."""
    sheet: str | None = None
    """Write a contact sheet: a PNG with up to 24 frames, the first and the last among them."""
    progress: str | None = None
    """Write an mp4 or GIF of one episode as each kept checkpoint plays it, on its own."""
    overlay: bool = False
    """Show step, return, action, and the action's values or probabilities beneath the frames."""
    web: bool = False
    """Serve a live page for the browser; rl-lab watch --web --help lists its options."""
    saliency: Literal["gradient", "perturbation"] | None = None
    """Colour the pixels of an image policy's frames on which each decision depends."""
    episodes: int = 1
    """Episodes to watch, each up to 3000 steps."""
    seed: int | None = None
    """Seed of the episodes; by default the run's, so that they are its evaluation episodes."""
    best: bool = False
    """Watch the checkpoint with the best evaluation instead of the last."""
    checkpoint: int | None = None
    """Watch the kept checkpoint at this environment step instead of the last."""
    training_episode: str | None = None
    """Show training episodes exactly as they happened, and check that: best, worst, last, every:N, or a row in
    episodes.csv, counted from 0."""
    env_id: str | None = None
    """Environment id, needed where RUN_DIR isn't a run directory."""
    env_kwargs: tuple[str, ...] = ()
    """Its arguments, each name=value."""
    algo: str | None = None
    """Algorithm of a model.zip, such as dqn; by default as the file tells."""
    statistics: str | None = None
    """Statistics of a model.zip's observations, a file that VecNormalize.save wrote."""
    trust_pickles: bool = False
    """Read a model.zip and statistics although their pickles run whatever code their author put into them."""


def watch(argv: Sequence[str]) -> int:
    """Show or film an agent; return the exit code, 1 if training episodes did not happen again as they did.

    Raises:
        UsageError: a wrong option or value, no run there, an episode that the run doesn't have, no display, or a place
            where no file can be written.
        NotWritten: a film failed; what was at its place is as it was.
        EnvironmentFault: the environment fails; the films hold what was played until then.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    if "--web" in argv:
        from rl_lab.cli.watch_web import watch_web

        return watch_web(argv)
    if len(argv) > 1 and not argv[0].startswith("-") and not argv[1].startswith("-"):
        raise UsageError(
            f"pictures and films show one agent, not {argv[0]!r} and {argv[1]!r}"
            " (allowed: --web, which shows two side by side)"
        )
    from rl_lab.evaluation.watch import require_display

    parts = [Part(WatchOptions(tyro.MISSING), "options")]
    options = WatchOptions(**parse_parts(parts, argv, program="rl-lab watch", about=ABOUT))
    require_consistent(options)
    if options.human:
        require_display()  # before an environment is made that draws into memory instead
    if options.progress is not None:
        return _show_progress(options)
    source = _source(options)
    outputs = _outputs(options, source)
    return (
        _show_past(options, source, outputs) if options.training_episode else _show(options, source, outputs)
    )


def _source(options: WatchOptions) -> Watched:
    """Return what is watched, with the threads of its run. Raises UsageError, as `watched` does."""
    from rl_lab.runs.config import parse_pairs
    from rl_lab.training.devices import set_threads
    from rl_lab.watching.sources import Environment, ModelFile, watched

    given = Environment(options.env_id, parse_pairs(options.env_kwargs), seed=options.seed or 0)
    has_environment = options.env_id is not None or bool(options.env_kwargs)
    source = watched(
        options.run_dir,
        best=options.best,
        at_step=options.checkpoint,
        environment=given if has_environment else None,
        model_file=ModelFile(
            options.algo,
            None if options.statistics is None else Path(options.statistics),
            options.trust_pickles,
        ),
    )
    set_threads(source.config.threads)
    return source


def _outputs(options: WatchOptions, source: Watched) -> Outputs:
    """Return where pictures go.

    Raises:
        UsageError: a suffix that isn't allowed, one file for two, or a place where no file can be written.
    """
    from rl_lab.evaluation.video import require_film
    from rl_lab.evaluation.watch import frames_per_second, live_window
    from rl_lab.watching.films import Outputs
    from rl_lab.watching.sheets import require_sheet

    if options.gif is not None and not options.gif.lower().endswith(".gif"):
        raise UsageError(f"--gif {options.gif!r} must end in .gif")
    given = {"--video": options.video, "--gif": options.gif}
    films = [require_film(file, name) for name, file in given.items() if file is not None]
    if len({file.absolute() for file in films}) < len(films):
        raise UsageError(f"--gif {options.gif!r} is the file of --video too (allowed: two files)")
    sheet = None if options.sheet is None else require_sheet(options.sheet, "--sheet")
    if options.human:
        window = live_window(frames_per_second(source.config), source.label)
        return Outputs(windows=[window], overlay=options.overlay)
    if not films and sheet is None:
        films = [require_film((source.folder or Path()) / "videos" / "watch.mp4")]
    return Outputs(films, sheet, overlay=options.overlay)


def _show(options: WatchOptions, source: Watched, outputs: Outputs) -> int:
    from rl_lab.studies.page.formats import counted
    from rl_lab.watching.films import played, show

    cut: list[int] = []
    moments = played(
        source,
        episodes=options.episodes,
        seed=options.seed,
        inspecting=options.overlay,
        saliency=options.saliency,
        on_cut=cut.append,
    )
    _tell(show(source, moments, outputs), outputs, _cut_note(cut, counted(options.episodes, "episode")))
    if source.folder is None and source.note:
        print(f"{source.label}: {source.note}")
    return 0


def _show_past(options: WatchOptions, source: Watched, outputs: Outputs) -> int:
    from rl_lab.runs.description import read_description
    from rl_lab.watching.films import show
    from rl_lab.watching.past import Replay, changed_since, past_episodes, picked, verdict

    assert source.folder is not None
    assert options.training_episode is not None
    replay = Replay(source, picked(past_episodes(source.folder), options.training_episode, source.folder))
    _tell(show(source, replay.moments(), outputs), outputs)
    if not replay.found:  # the window was closed before the end
        return 0
    agrees, line = verdict(replay.found, source.config.env_id, changed_since(read_description(source.folder)))
    if agrees:
        print(line)
    else:
        print(f"error: {line}", file=sys.stderr)
    return 0 if agrees else 1


def _show_progress(options: WatchOptions) -> int:
    from rl_lab.evaluation.video import require_film
    from rl_lab.runs.description import read_description
    from rl_lab.training.devices import set_threads
    from rl_lab.watching.films import film_progress

    assert options.progress is not None
    film, folder = require_film(options.progress, "--progress"), Path(options.run_dir)
    cut: list[int] = []
    set_threads(read_description(folder).config.threads)
    count, steps = film_progress(folder, film, seed=options.seed, overlay=options.overlay, on_cut=cut.append)
    note = _cut_note(cut, f"{len(steps)} parts")
    print(f"{count} frames, {film}{note}, of the checkpoints at steps {', '.join(map(str, steps))}")
    return 0


def _tell(count: int, outputs: Outputs, note: str = "") -> None:
    """Print what was shown."""
    from rl_lab.evaluation.watch import shows_nothing

    files = [*outputs.films, *([] if outputs.sheet is None else [outputs.sheet])]
    unseen = bool(outputs.windows) and shows_nothing()
    unseen_note = f", not shown: SDL_VIDEODRIVER is {os.environ['SDL_VIDEODRIVER']}" if unseen else ""
    print(f"{count} frames" + "".join(f", {file}" for file in files) + note + unseen_note)


def _cut_note(cut: Sequence[int], of: str) -> str:
    return f", {len(cut)} of {of} cut off after {cut[0]} steps" if cut else ""

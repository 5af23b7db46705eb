"""Films and contact sheets of what a policy plays, of training episodes, and of how a policy came about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rl_lab.environments.ending import ending
from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation import watch
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.evaluation.frames import Moment, Paint, moments
from rl_lab.evaluation.video import LiveWindow, Sink, VideoWriter, enlarge
from rl_lab.explanation.saliency import require_saliency, saliency_overlay
from rl_lab.training.loading import kept_steps
from rl_lab.types import Array, Obs, State, UsageError
from rl_lab.watching.overlays import Overlay, bar_names, captioned
from rl_lab.watching.sheets import SheetWriter
from rl_lab.watching.sources import Watched, watched

GIF_PIXELS, CELL_PIXELS = 320, 220  # longer sides of the frames in a GIF and in a contact sheet, at most
PAUSE_SECONDS = 0.6  # at the end of each part of a film of progress


@dataclass(frozen=True)
class Outputs:
    """Where pictures go."""

    films: Sequence[Path] = ()  # .mp4 and .gif
    sheet: Path | None = None
    windows: Sequence[LiveWindow] = ()
    overlay: bool = False  # show step, return, values and actions beneath the frames


def played(
    source: Watched,
    *,
    episodes: int,
    seed: int | None = None,
    inspecting: bool = False,
    saliency: str | None = None,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> Iterator[Moment]:
    """Yield the moments of episodes that a policy plays, each up to WATCHED_STEPS.

    Args:
        seed: from which those of the episodes follow; by default the run's, so that they are its evaluation episodes.
        inspecting: ask the policy for the figures behind its choices.
        saliency: "gradient" or "perturbation" colours the pixels on which each decision depends; None: none.
        on_cut: called with WATCHED_STEPS for each episode that was cut there.

    Raises:
        UsageError: no saliency is to be had of this policy.
        EnvironmentFault: the environment fails.
    """
    base = source.config.seed if seed is None else seed
    return moments(
        source.policy,
        source.make,
        seeds=[evaluation_seed(base, e) for e in range(episodes)],
        max_steps=watch.WATCHED_STEPS,
        inspecting=inspecting,
        paint=None if saliency is None else _salient(source, saliency),
        on_cut=on_cut,
    )


def _salient(source: Watched, method: str) -> Paint:
    """Return what lays saliency over the frames of a policy. Raises UsageError, as `require_saliency` does."""
    policy, space = source.policy, source.problem.spec.observation_space
    require_saliency(policy, space, method)

    def paint(frame: Array, obs: Obs, state: State, is_first: Array, mask: Array | None) -> Array:
        return saliency_overlay(
            policy, obs, state, is_first, as_rgb(frame), space=space, method=method, mask=mask
        )

    return paint


def show(source: Watched, shown: Iterable[Moment], outputs: Outputs) -> int:
    """Show moments in files and windows, until a window is closed; return how many were shown.

    Whatever ends it, the files hold what was shown until then.

    Raises:
        UsageError: nothing can be written at a file's place.
        NotWritten: a file failed; what was at its place is as it was.
        EnvironmentFault: the environment fails.
    """
    fps, overlay = (
        frames_and_overlay(source) if outputs.overlay else (watch.frames_per_second(source.config), None)
    )

    def draw(moment: Moment, most: int | None) -> Array:
        frame = sized(moment.frame, most)
        return frame if overlay is None else overlay.draw(frame, moment)

    count = 0
    with ExitStack() as stack:
        sinks: list[tuple[Sink, int | None]] = [(window, None) for window in outputs.windows]
        sinks += [(VideoWriter(film, fps), most_pixels(film)) for film in outputs.films]
        sinks += [] if outputs.sheet is None else [(SheetWriter(outputs.sheet), CELL_PIXELS)]
        for sink, _ in sinks:
            stack.enter_context(sink)
        for moment in shown:
            count += 1
            wanted = [
                sink.add(draw(moment, most)) for sink, most in sinks
            ]  # a list: every sink gets the frame
            if not all(wanted):
                break
    return count


def frames_and_overlay(source: Watched) -> tuple[float, Overlay]:
    """Return the frame rate at which the environment is meant to be watched, and an overlay with its actions' names."""
    with ending(source.make()) as env:
        fps = float(env.metadata.get("render_fps") or watch.FPS)
        return fps, Overlay(bar_names(env), source.problem.spec.first_action)


def most_pixels(film: Path) -> int | None:
    """Return the longer side that frames may have in a film; None for any."""
    return GIF_PIXELS if film.suffix.lower() == ".gif" else None


def sized(frame: Array, most: int | None) -> Array:
    """Return a frame uint8 [H, W, 3], enlarged if it is small, and shrunk if its longer side exceeds `most` pixels."""
    picture = enlarge(as_rgb(frame))
    height, width = picture.shape[:2]
    if most is None or max(height, width) <= most:
        return picture
    scale = most / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


# Progress --------------------------------------------------------------------------------------------


def film_progress(
    folder: Path,
    path: Path,
    *,
    seed: int | None = None,
    overlay: bool = False,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> tuple[int, list[int]]:
    """Film the same episode as each kept checkpoint of a run plays it, one after the other, each with a caption.

    Args:
        path: .mp4 or .gif.
        seed: from which that of the episode follows; by default the run's: its first evaluation episode.
        overlay: show step, return, values and actions beneath the frames.
        on_cut: called with FILMED_STEPS for each part that was cut there.

    Returns:
        The number of frames, and the environment steps of the checkpoints.

    Raises:
        UsageError: there are fewer than two checkpoints, or nothing can be written at the file's place.
        NotWritten: the film failed; what was at its place is as it was.
        EnvironmentFault: the environment fails; the film holds what was played until then.
    """
    steps = kept_steps(folder)
    if len(steps) < 2:
        raise UsageError(
            f"run directory {str(folder)!r} has kept {len(steps)} checkpoint{'s' * (len(steps) != 1)}, which shows no"
            " progress (allowed: a run with keep_checkpoints 2 or more)"
        )
    first = watched(folder, at_step=steps[0])
    fps, panel = frames_and_overlay(first)
    with VideoWriter(path, fps) as writer:
        for at_step in steps:
            source = (
                first
                if at_step == steps[0]
                else replace(first, policy=watched(folder, at_step=at_step).policy)
            )
            for picture in _part(
                source, at_step, seed, panel if overlay else None, most_pixels(path), on_cut
            ):
                writer.add(picture)
            for _ in range(round(PAUSE_SECONDS * fps)):
                writer.add(picture)
    return writer.frames, steps


def _part(
    source: Watched, at_step: int, seed: int | None, overlay: Overlay | None, most: int | None, on_cut: Any
) -> Iterator[Array]:
    """Yield the pictures of one checkpoint's episode."""
    base = source.config.seed if seed is None else seed
    for moment in moments(
        source.policy,
        source.make,
        seeds=[evaluation_seed(base, 0)],
        max_steps=watch.FILMED_STEPS,
        inspecting=overlay is not None,
        on_cut=on_cut,
    ):
        picture = sized(moment.frame, most)
        if overlay is not None:
            picture = overlay.draw(picture, moment)
        yield captioned(picture, f"after {at_step:,} steps of training: return {moment.return_:.6g}")

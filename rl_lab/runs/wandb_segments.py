"""The W&B runs of a run directory: one for each start, called a segment, and whole ones made afterwards."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rl_lab.storage.files import write_atomically

WHOLE = "whole.json"  # tells of the newest W&B run that was made of all local rows
SET_ASIDE = "set-aside"  # folder beneath wandb/ for offline segments that a whole run replaces


@dataclass
class Segment:
    """One W&B run of a run directory; its file says what it holds, once it has ended cleanly."""

    path: Path | None  # None: no file tells of it
    run_id: str
    start_byte: int = 0  # of metrics.jsonl
    end_byte: int | None = None  # None: it did not end cleanly
    videos: list[str] = field(default_factory=list)  # uploaded so far, earlier segments included
    state: str | None = None  # how training ended: finished, stopped, failed or killed
    mode: str = "offline"
    folder: str | None = None  # where W&B wrote it, beneath wandb/

    @property
    def number(self) -> int:
        """How many starts of the run came before; 0 for a whole run."""
        number = "" if self.path is None else self.path.stem.rpartition("-")[2]
        return int(number) if number.isdigit() else 0

    def write(self) -> None:
        """Write the segment's file, whole or not at all."""
        if self.path is not None:
            contents = {name: value for name, value in vars(self).items() if name != "path"}
            write_atomically(self.path, json.dumps(contents).encode())


def next_segment(run_dir: Path, size: int, environment: Mapping[str, str] | None = None) -> Segment:
    """Open the segment that goes on where the earlier ones of this run directory stopped.

    Args:
        size: bytes of metrics.jsonl when training started. A resume cuts the file back and then appends, so
            that the end of an earlier segment may lie in the middle of a new row.
        environment: WANDB_RUN_ID in it is the id of the first segment, as an agent of a sweep wants it.
    """
    before = segments_of(run_dir)
    path = run_dir / "wandb" / f"segment-{len(before)}.json"
    wanted = (os.environ if environment is None else environment).get("WANDB_RUN_ID")
    if not before:
        segment = Segment(path, wanted or f"{secrets.token_hex(4)}-0")
    else:
        segment = Segment(path, f"{base_id(before)}-{len(before)}")
        last = before[-1]
        stopped = last.start_byte if last.end_byte is None else last.end_byte
        segment.start_byte, segment.videos = min(stopped, size), list(last.videos)
    segment.write()
    return segment


def rebuilt_segment(run_dir: Path) -> Segment:
    """Return a segment for everything there is."""
    before = segments_of(run_dir)
    state = before[-1].state if before else None
    (run_dir / "wandb").mkdir(exist_ok=True)
    path = run_dir / "wandb" / WHOLE
    return Segment(path, f"{base_id(before)}-rebuilt-{secrets.token_hex(2)}", state=state)


def segments_of(run_dir: Path) -> list[Segment]:
    """Return the segments so far, in order."""
    paths = sorted((run_dir / "wandb").glob("segment-*.json"), key=lambda path: (len(path.name), path.name))
    return [Segment(path, **json.loads(path.read_text())) for path in paths]


def base_id(segments: list[Segment]) -> str:
    """Return what the ids of all segments of a run directory begin with.

    It comes from the system, never from the run's streams: two runs with one seed are two runs in W&B.
    """
    return segments[0].run_id.removesuffix("-0") if segments else secrets.token_hex(4)


def whole_segment(run_dir: Path, mode: str) -> Segment | None:
    """Return the segment that holds all rows of a run directory alone; None if there is none in this mode."""
    path, metrics = run_dir / "wandb" / WHOLE, run_dir / "metrics.jsonl"
    rows = metrics.stat().st_size if metrics.exists() else 0
    before = segments_of(run_dir)
    found = [Segment(path, **json.loads(path.read_text()))] if path.exists() else []
    for segment in found + (before if len(before) == 1 else []):
        finished = segment.state == "finished" or not (run_dir / "summary.json").exists()
        there = mode == "online" or (
            segment.folder is not None and (run_dir / "wandb" / segment.folder).exists()
        )
        if (segment.mode, segment.start_byte, segment.end_byte) == (mode, 0, rows) and finished and there:
            return segment
    return None


def set_aside(run_dir: Path, kept: str | None) -> list[Path]:
    """Move offline runs that a whole one replaces out of the way of `wandb sync`; return where they are now.

    Args:
        kept: name of the folder of the whole run.
    """
    folder = run_dir / "wandb"
    moved = []
    for path in sorted(folder.glob("offline-run-*")):
        if path.name != kept:
            (folder / SET_ASIDE).mkdir(exist_ok=True)
            moved.append(path.rename(folder / SET_ASIDE / path.name))
    return moved

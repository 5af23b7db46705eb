"""What the mirror's process does: it copies the files of a run directory into a W&B run (see `tracking.py`)."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rl_lab.runs.rows import is_number

PROJECT = "rl_lab"
POLL_SECONDS = 1.0
INIT_SECONDS = 20  # how long W&B's server may take to answer

# ---------------------------------------------------------------- rows


class Tail:
    """Reads the lines that were added to a file since the last time."""

    def __init__(self, path: Path, offset: int = 0):
        self.path = path
        self.offset = offset  # bytes read so far; always the end of a line

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each new row; a last line without its newline is left for later."""
        if not self.path.exists():
            return
        self.offset = min(self.offset, self.path.stat().st_size)  # a resume cuts the file back
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                if row := _parse(line):
                    yield row


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a row; None for a damaged line, as a power cut may leave."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def loggable(row: Mapping[str, Any], histogram: Callable[[list[float]], Any]) -> dict[str, Any]:
    """Return a row as W&B should get it: without nulls, and with lists of numbers as histograms.

    W&B draws histograms over the steps; the exact values are in the local row.
    """
    values = {key: _histogram_of(v, histogram) if isinstance(v, list) else v for key, v in row.items()}
    return {key: value for key, value in values.items() if value is not None}


def _histogram_of(values: list[Any], histogram: Callable[[list[float]], Any]) -> Any:
    numbers = [v for v in values if is_number(v)]
    return histogram(numbers) if numbers else None


# ---------------------------------------------------------------- segments


@dataclass
class Segment:
    """One W&B run of a run directory; its file says what it holds, once it has ended cleanly."""

    path: Path | None  # None: a rebuilt run, which later segments don't go on from
    run_id: str
    start_byte: int = 0  # of metrics.jsonl
    end_byte: int | None = None  # None: it did not end cleanly
    videos: list[str] = field(default_factory=list)  # uploaded so far, earlier segments included

    def write(self) -> None:
        """Write the segment's file, whole or not at all."""
        if self.path is not None:
            contents = {name: value for name, value in vars(self).items() if name != "path"}
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(contents))
            temporary.replace(self.path)


def next_segment(run_dir: Path, size: int) -> Segment:
    """Open the segment that goes on where the earlier ones of this run directory stopped.

    Args:
        size: bytes of metrics.jsonl when training started. A resume cuts the file back and then appends, so
            that the end of an earlier segment may lie in the middle of a new row.
    """
    before = _segments(run_dir)
    segment = Segment(run_dir / "wandb" / f"segment-{len(before)}.json", f"{_base_id(before)}-{len(before)}")
    if before:
        last = before[-1]
        stopped = last.start_byte if last.end_byte is None else last.end_byte
        segment.start_byte, segment.videos = min(stopped, size), list(last.videos)
    segment.write()
    return segment


def rebuilt_segment(run_dir: Path) -> Segment:
    """Return a segment for everything there is."""
    return Segment(None, f"{_base_id(_segments(run_dir))}-rebuilt-{secrets.token_hex(2)}")


def _segments(run_dir: Path) -> list[Segment]:
    """Return the segments so far, in order."""
    paths = sorted((run_dir / "wandb").glob("segment-*.json"), key=lambda path: (len(path.name), path.name))
    return [Segment(path, **json.loads(path.read_text())) for path in paths]


def _base_id(segments: list[Segment]) -> str:
    # From the system, never from the run's streams: two runs with one seed are two runs in W&B.
    return segments[0].run_id.rpartition("-")[0] if segments else secrets.token_hex(4)


# ---------------------------------------------------------------- the W&B run


def mirror(run_dir: Path, mode: str, segment: Segment, ended: Callable[[float], bool]) -> None:
    """Copy a run directory into one W&B run.

    Args:
        ended: waits up to so many seconds and says whether no more rows come.

    Raises:
        OSError: W&B lost rows, as it does on a full disk.
    """
    import wandb

    run = _open_run(run_dir, mode, segment)
    tail = Tail(run_dir / "metrics.jsonl", segment.start_byte)
    env_steps: float = 0
    last = False
    while not last:
        last = ended(POLL_SECONDS)  # before reading, so that the last reading misses nothing
        for row in tail.rows():
            run.log(loggable(row, wandb.Histogram))
            env_steps = row.get("env_steps", env_steps)
    for path in sorted((run_dir / "videos").glob("*.mp4")):
        if path.name not in segment.videos:
            run.log({f"videos/{path.stem}": wandb.Video(str(path), format="mp4"), "env_steps": env_steps})
            segment.videos.append(path.name)
    summary = _read_json(run_dir / "summary.json")
    run.summary.update({key: value for key, value in summary.items() if _is_scalar(value)})
    run.finish(exit_code=0 if summary else 1)
    _check_written(Path(run.dir).parent)
    segment.end_byte = tail.offset
    segment.write()


def _open_run(run_dir: Path, mode: str, segment: Segment) -> Any:
    import wandb

    config = _read_json(run_dir / "config.json")
    base, _, number = segment.run_id.partition("-")
    name = "-".join(str(config.get(key)) for key in ("agent", "env_id")) + f"-s{config.get('seed')}"
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        dir=str(run_dir),
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=segment.run_id,
        name=name if number == "0" else f"{name}-{number}",
        group=config.get("group") or f"{name}-{base}",  # without a comparison, its own segments
        job_type=config.get("agent"),
        config=config,
        settings=_settings(),
    )
    run.define_metric("env_steps")
    run.define_metric("*", step_metric="env_steps")
    return run


def _settings() -> Any:
    """Return settings by which nothing of this machine, its code or its command lines is stored."""
    import wandb

    off = ("save_code", "x_save_requirements", "symlink")
    on = (
        *("silent", "quiet", "disable_code", "disable_git", "disable_job_creation"),
        *("x_disable_meta", "x_disable_stats", "x_disable_machine_info"),
    )
    wanted: dict[str, Any] = {"console": "off", "init_timeout": INIT_SECONDS, "host": ""}
    wanted |= dict.fromkeys(off, False) | dict.fromkeys(on, True)
    # Names that begin with x_ are internal to W&B: should one go, the mirror goes on without it.
    return wandb.Settings(**{name: v for name, v in wanted.items() if name in wandb.Settings.model_fields})


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _check_written(folder: Path) -> None:
    """Raise OSError if W&B lost rows: on a full disk it only says so in a log."""
    log = folder / "logs" / "debug-internal.log"
    lost = log.exists() and "failed to save record" in log.read_text(errors="replace")
    if lost or shutil.disk_usage(folder).free == 0:
        raise OSError(f"W&B could not write all rows to {folder}")

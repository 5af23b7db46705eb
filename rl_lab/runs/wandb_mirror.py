"""What the mirror's process does: it copies the files of a run directory into a W&B run (see `tracking.py`)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl_lab.runs.rows import parse_row
from rl_lab.runs.scrubbing import without_secrets
from rl_lab.runs.wandb_keys import AXIS, loggable, summarised
from rl_lab.runs.wandb_segments import Segment
from rl_lab.runs.wandb_settings import PROJECT
from rl_lab.runs.wandb_uploads import upload_code, upload_films, upload_model, upload_pictures, upload_videos

POLL_SECONDS = 1.0
INIT_SECONDS = 20  # how long W&B's server may take to answer
SYSTEM_SECONDS = 2.0  # between the figures of CPU, memory and GPU
# What W&B shows as failed; it knows no stopped runs, and shows them as finished.
FAILED = ("failed", "killed")


class Tail:
    """Reads the lines that were added to a file since the last time."""

    def __init__(self, path: Path, offset: int = 0):
        self.path = path
        self.offset = offset  # bytes read so far; always the end of a line

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each new row, passing over lines that are none; a last line without its newline is left for later."""
        if not self.path.exists():
            return
        self.offset = min(self.offset, self.path.stat().st_size)  # a resume cuts the file back
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                if (row := parse_row(line)) is not None:
                    yield row


def mirror(
    run_dir: Path,
    mode: str,
    segment: Segment,
    ended: Callable[[float], str | None],
    *,
    following: bool = True,
) -> None:
    """Copy a run directory into one W&B run.

    Args:
        following: training goes on, and started this process; only then are its code and its use of the machine known.
        ended: waits up to so many seconds; returns how training ended once no more rows come, before that None.

    Raises:
        OSError: W&B lost rows, as it does on a full disk.
    """
    import wandb

    config = without_secrets(_read_json(run_dir / "config.json"))  # older versions stored them
    run = _open_run(run_dir, mode, segment, config, following)
    tail = Tail(run_dir / "metrics.jsonl", segment.start_byte)
    env_steps: float = 0
    state: str | None = None
    wanted = set(config.get("wandb_upload", ("videos",))) - (set() if following else {"code"})
    while state is None:
        state = ended(POLL_SECONDS)  # before reading, so that the last reading misses nothing
        for row in tail.rows():
            run.log(loggable(row, wandb.Histogram))
            env_steps = row[AXIS]
        if "videos" in wanted:
            upload_films(run, run_dir, segment.videos)
    _upload(run, run_dir, segment, env_steps, wanted)
    summary = _read_json(run_dir / "summary.json")
    segment.state = "finished" if summary else state
    run.summary.update(summarised(summary) | {"state": segment.state})
    run.finish(exit_code=1 if segment.state in FAILED else 0)
    check_written(Path(run.dir).parent)
    segment.end_byte, segment.mode, segment.folder = tail.offset, mode, Path(run.dir).parent.name
    segment.write()


def _upload(run: Any, run_dir: Path, segment: Segment, env_steps: float, wanted: set[str]) -> None:
    if "videos" in wanted:
        upload_videos(run, run_dir, env_steps, segment.videos)
    if "pictures" in wanted:
        upload_pictures(run, run_dir, env_steps)
    if "model" in wanted:
        upload_model(run, run_dir, segment.run_id)
    if "code" in wanted:
        upload_code(run, Path.cwd(), segment.run_id)


def _open_run(run_dir: Path, mode: str, segment: Segment, config: dict[str, Any], following: bool) -> Any:
    os.environ["WANDB_RUN_ID"] = segment.run_id  # within a sweep W&B takes it from here alone
    import wandb

    usual = f"{config.get('agent')}-{config.get('env_id')}-s{config.get('seed')}"
    name = config.get("wandb_name") or usual
    base = segment.run_id.removesuffix(f"-{segment.number}")
    run = wandb.init(
        mode=mode,  # type: ignore[arg-type]
        dir=str(run_dir),
        project=config.get("wandb_project") or os.environ.get("WANDB_PROJECT", PROJECT),
        entity=config.get("wandb_entity"),
        id=segment.run_id,
        name=f"{name}-{segment.number}" if segment.number else name,
        group=config.get("group") or f"{usual}-{base}",  # without a comparison, its own segments
        job_type=config.get("wandb_job_type") or config.get("agent"),
        tags=config.get("wandb_tags"),
        notes=config.get("wandb_notes"),
        config=config,
        settings=private_settings(system=following and "system" in config.get("wandb_upload", ())),
    )
    run.define_metric(AXIS)
    run.define_metric("*", step_metric=AXIS)
    return run


def private_settings(system: bool) -> Any:
    """Return settings by which nothing of this machine, its code or its command lines is stored.

    Args:
        system: store the use of CPU, memory and GPU by training, which started this process.
    """
    import wandb

    off = ("save_code", "x_save_requirements", "symlink")
    on = (
        *("silent", "quiet", "disable_code", "disable_git", "disable_job_creation"),
        *("x_disable_meta", *([] if system else ["x_disable_machine_info", "x_disable_stats"])),
    )
    wanted: dict[str, Any] = {"console": "off", "init_timeout": INIT_SECONDS, "host": ""}
    if system:
        wanted |= {"x_stats_sampling_interval": SYSTEM_SECONDS, "x_stats_pid": os.getppid()}
    wanted |= dict.fromkeys(off, False) | dict.fromkeys(on, True)
    # Names that begin with x_ are internal to W&B: should one go, the mirror goes on without it.
    return wandb.Settings(**{name: v for name, v in wanted.items() if name in wandb.Settings.model_fields})


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def check_written(folder: Path) -> None:
    """Raise OSError if W&B lost rows: on a full disk it only says so in a log."""
    log = folder / "logs" / "debug-internal.log"
    lost = log.exists() and "failed to save record" in log.read_text(errors="replace")
    if lost or shutil.disk_usage(folder).free == 0:
        raise OSError(f"W&B could not write all rows to {folder}")

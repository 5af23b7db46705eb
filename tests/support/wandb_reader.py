"""Reads W&B's offline files back: what a run would upload, without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK_BYTES = 32768
FILE_HEADER_BYTES = 7  # ":W&B", a magic number, a version; it counts towards the first block
CHUNK_HEADER_BYTES = 7  # checksum (4), length (2), type (1)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """One offline run as W&B's server would see it."""

    folder: Path  # offline-run-.../
    run_id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    entity: str = ""
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    sweep_id: str = ""
    exit_code: int | None = None  # None: the run never finished
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)  # one dict per row, W&B's own keys included
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)  # a metric's name or glob -> its step metric
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)  # by type: local copies, by path
    stats: int = 0  # how many rows of system metrics
    files: list[str] = field(default_factory=list)  # named for upload, relative to folder/files

    def curve(self, name: str) -> list[tuple[float, Any]]:
        """Return (env_steps, value) of each row that has this metric."""
        return [(row["env_steps"], row[name]) for row in self.history if name in row]


def read_offline_runs(folder: str | Path) -> list[OfflineRun]:
    """Return every offline run beneath `folder` (a run directory, or one that holds many), oldest first."""
    paths = Path(folder).rglob("offline-run-*/*.wandb")
    return [read_offline_run(path) for path in sorted(paths, key=lambda path: (path.parent.name, path))]


def read_offline_run(path: Path) -> OfflineRun:
    """Read one `.wandb` file; a torn end is ignored, as W&B's own sync does."""
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun(path.parent)
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind in _READERS:
            _READERS[kind](run, getattr(record, kind))
    return run


def texts_in(path: Path) -> list[str]:
    """Return every text of a `.wandb` file, of whatever kind of record."""
    from wandb.proto import wandb_internal_pb2

    found: list[str] = []
    for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found += _texts(record)
    return found


def _texts(message: Any) -> Iterator[str]:
    """Yield the texts of a message of protobuf, and of those within it."""
    for kind, value in message.ListFields():
        inner = kind.message_type
        if inner is not None and inner.GetOptions().map_entry:
            parts = [*value, *value.values()]
        else:
            parts = (
                list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
            )
        for part in parts:
            if isinstance(part, str):
                yield part
            elif hasattr(part, "ListFields"):
                yield from _texts(part)


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of a LevelDB log: records are cut into chunks that never cross a block."""
    if data[:4] != b":W&B":
        raise ValueError(f"not a W&B file: it starts with {data[:4]!r}")
    position, parts = FILE_HEADER_BYTES, b""
    while position + CHUNK_HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < CHUNK_HEADER_BYTES:
            position += left
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        chunk = data[position + CHUNK_HEADER_BYTES : position + CHUNK_HEADER_BYTES + size]
        position += CHUNK_HEADER_BYTES + size
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(chunk) < size:
            return
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts


def _items(items: Any) -> dict[str, Any]:
    """Return key -> value; a nested key makes nested dicts."""
    values: dict[str, Any] = {}
    for item in items:
        *folders, name = list(item.nested_key) or [item.key]
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = json.loads(item.value_json)
    return values


def _read_run(run: OfflineRun, record: Any) -> None:
    run.run_id, run.name, run.project = record.run_id, record.display_name, record.project
    run.group, run.job_type, run.entity = record.run_group, record.job_type, record.entity
    run.tags, run.notes, run.sweep_id = list(record.tags), record.notes, record.sweep_id
    _read_config(run, record.config)


def _read_config(run: OfflineRun, record: Any) -> None:
    run.config |= {key: value for key, value in _items(record.update).items() if key != "_wandb"}


def _read_history(run: OfflineRun, record: Any) -> None:
    run.history.append(_items(record.item))


def _read_summary(run: OfflineRun, record: Any) -> None:
    run.summary |= {key: value for key, value in _items(record.update).items() if key != "_wandb"}


def _read_metric(run: OfflineRun, record: Any) -> None:
    run.metrics[record.name or record.glob_name] = record.step_metric


def _read_files(run: OfflineRun, record: Any) -> None:
    run.files += [file.path for file in record.files]


def _read_artifact(run: OfflineRun, record: Any) -> None:
    run.artifacts[record.type] = {entry.path: Path(entry.local_path) for entry in record.manifest.contents}


def _read_stats(run: OfflineRun, record: Any) -> None:
    run.stats += 1


def _read_exit(run: OfflineRun, record: Any) -> None:
    run.exit_code = record.exit_code


_READERS = {
    "run": _read_run,
    "config": _read_config,
    "history": _read_history,
    "summary": _read_summary,
    "metric": _read_metric,
    "files": _read_files,
    "artifact": _read_artifact,
    "stats": _read_stats,
    "exit": _read_exit,
}

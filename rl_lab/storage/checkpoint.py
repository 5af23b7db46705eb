"""Atomic checkpoints that contain no code.

A checkpoint is a manifest (JSON) that lists immutable segments, each named by the SHA-256 of its
bytes: JSON for structure and scalars, safetensors for arrays, .npy for the rows of ring buffers.
Checkpoints that are kept share segments, so that saving a large replay again only adds the new
rows, most of which were written ahead (see `segments`). Segments are written first, then the
manifest, each to a temporary file that is synced and renamed: a kill at any moment leaves the
previous checkpoint whole. Every byte is verified before it is decoded.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from rl_lab.storage import formats
from rl_lab.storage.errors import CheckpointCorrupt, CheckpointError, CheckpointMissing
from rl_lab.storage.files import json_bytes, malformed_as_corrupt, sha256, write_atomically
from rl_lab.storage.formats import Migrations
from rl_lab.storage.manifests import require_manifest
from rl_lab.storage.segments import RingSegments, Segments
from rl_lab.storage.state_trees import Ring, StoredRing, encode, rebuild, rings_of
from rl_lab.types import OneLineWarning

MIGRATIONS: Migrations = {1: dict, 2: dict}  # of manifests: all have the same layout


class _Summary(NamedTuple):
    """What has to be known of a checkpoint to keep it or to remove it."""

    score: float | None
    files: frozenset[str]  # names of its segments


class Checkpoints:
    """Saves and loads the checkpoints of one run, in `folder`.

    Args:
        keep_last: newest checkpoints that are kept.
        keep_best: checkpoints with the best scores that are kept too.
    """

    def __init__(self, folder: Path, keep_last: int = 2, keep_best: int = 0):
        self.folder = Path(folder)
        self._segments = Segments(self.folder / "segments")
        self._keep_last, self._keep_best = keep_last, keep_best
        self._rings = RingSegments(self._segments)
        self._damaged: set[Path] = set()  # manifests that `load` has passed over
        self._summaries: dict[Path, tuple[tuple[int, ...], _Summary]] = {}  # with what `_version_of` said

    # Writing -------------------------------------------------------------------------------------

    def save(self, env_steps: int, members: dict[str, Any], info: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint of named state trees and return the path of its manifest.

        Args:
            members: the trees, by name: nested dicts with string keys, tuples and lists of scalars, strings,
                arrays, tensors and `Ring`s.
            info: small JSON facts that can be read without loading the members; `keep_best` goes by "score".

        Raises:
            NotWritten: the disk is full, say; the previous checkpoint is whole.
            TypeError: a key or a leaf that can't be stored.
        """
        self._segments.make_folder()
        body: dict[str, Any] = {
            "format": formats.FORMAT,
            "env_steps": env_steps,
            "info": info or {},
            "members": {name: self._write_member(name, tree) for name, tree in members.items()},
        }
        data = json_bytes(body)
        path = self.folder / f"{env_steps:012d}-{sha256(data)[:16]}.json"
        write_atomically(path, data)
        self._summaries[path] = _version_of(path), _summary_of(body)
        self._damaged.discard(path)
        self._rings.saved({f"{name}/{ring}" for name, m in body["members"].items() for ring in m["rings"]})
        self._sweep(keep=path)
        return path

    def _write_member(self, name: str, tree: Any) -> dict[str, Any]:
        tensors: dict[str, np.ndarray] = {}
        rings: dict[str, Ring] = {}
        structure = encode(tree, "", tensors, rings)
        stored = self._rings.write({f"{name}/{path}": ring for path, ring in rings.items()})
        return {
            "structure": self._segments.write(".json", json_bytes(structure)),
            "tensors": self._segments.write(".safetensors", save_safetensors(tensors)) if tensors else None,
            "rings": {path: stored[f"{name}/{path}"] for path in rings},
        }

    def write_ahead(self, env_steps: int, members: dict[str, Any]) -> int:
        """Start to write, in the background, what the rings of named state trees have gathered for the next checkpoint.

        The next `save` waits for it. What can't be written or removed is left to that `save`, which raises what is
        wrong.

        Returns:
            The number of environment steps after which it is worth being called again.
        """
        rings = {f"{n}/{path}": ring for n, tree in members.items() for path, ring in rings_of(tree)}
        if gone := self._rings.overwritten(rings):  # before equal rows are found on the disk
            with suppress(OSError):
                self._remove_segments(gone - self._used(self.manifests()))
        return self._rings.write_ahead(rings, env_steps)

    def close(self) -> None:
        """Wait for what is being written in the background."""
        self._rings.finish()

    def _sweep(self, keep: Path) -> None:
        """Remove manifests that aren't kept, then segments that no manifest uses, and temporaries."""
        manifests = self.manifests()
        whole = [path for path in manifests if path not in self._damaged]
        later = manifests[manifests.index(keep) :]  # damaged ones among them take no place of whole ones
        kept = {keep, *later[-self._keep_last :], *whole[-self._keep_last :], *self.best()[: self._keep_best]}
        for path in manifests:
            if path not in kept:
                path.unlink()
                self._summaries.pop(path, None)
        self._remove_segments(self._segments.names() - self._used(kept))
        self.sweep_temporaries()

    def _remove_segments(self, names: Iterable[str]) -> None:
        for name in names:
            (self._segments.folder / name).unlink(missing_ok=True)

    def sweep_segments(self) -> None:
        """Remove the segments that no checkpoint lists, unless a checkpoint can't be read."""
        try:
            used = {
                segment["file"] for path in self.manifests() for segment in _segments_of(read_manifest(path))
            }
        except CheckpointError:
            return
        self._remove_segments(self._segments.names() - used)

    def sweep_temporaries(self) -> None:
        """Remove the temporary files of writes that were killed."""
        for path in self.folder.rglob("*.tmp"):
            path.unlink()

    def _used(self, manifests: Iterable[Path]) -> set[str]:
        summaries = filter(None, map(self._summary, manifests))
        return set().union(*(summary.files for summary in summaries))

    def _summary(self, manifest: Path) -> _Summary | None:
        """Return the summary of a checkpoint, None if it is damaged; a manifest is read again only if it changed."""
        try:
            version = _version_of(manifest)
            if self._summaries.get(manifest, ((),))[0] != version:
                self._summaries[manifest] = version, _summary_of(read_manifest(manifest))
        except (CheckpointError, OSError):
            return None
        return self._summaries[manifest][1]

    # Reading -------------------------------------------------------------------------------------

    def manifests(self) -> list[Path]:
        """Return the manifests, oldest first."""
        found = self.folder.glob("*.json") if self.folder.is_dir() else ()
        return sorted(found, key=lambda path: (path.name.split("-")[0], path.stat().st_mtime_ns))

    def last_step(self) -> int | None:
        """Return the step of the newest checkpoint, which need not be whole; None if there is none."""
        manifests = self.manifests()
        return _step_of(manifests[-1]) if manifests else None

    def files(self) -> set[str]:
        """Return the names of all files that belong to the checkpoints on disk."""
        manifests = self.manifests()
        return {p.name for p in manifests} | self._used(manifests)

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints, which need not be whole, each once in ascending order."""
        return sorted({step for path in self.manifests() if (step := _step_of(path)) is not None})

    def best(self) -> list[Path]:
        """Return the manifests whose info has a "score", best first; of equal ones the newer first.

        Those that `load` has passed over aren't among them.
        """
        scored = []
        for age, path in enumerate(reversed(self.manifests())):
            summary = None if path in self._damaged else self._summary(path)
            score = None if summary is None else summary.score
            if score is not None and score == score:  # nan is no score
                scored.append((-score, age, path))
        return [path for _, _, path in sorted(scored)]

    def best_score(self) -> float | None:
        """Return the best score of the checkpoints on disk; None if none has one."""
        best = self.best()
        return read_manifest(best[0])["info"]["score"] if best else None

    def load(
        self,
        only: tuple[str, ...] | None = None,
        *,
        best: bool = False,
        at_step: int | None = None,
        migrations: Migrations | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Return (env_steps, members) of the newest checkpoint that is whole.

        A corrupt one is passed over with a warning that says what is wrong with it.

        Args:
            only: load (and verify) only these members.
            best: load the one with the best score instead, if any has one.
            at_step: load the newest of those at this step alone.
            migrations: bring the members of older formats up to date with these; without them members are
                returned as they were stored.

        Raises:
            CheckpointMissing: there is none.
            CheckpointCorrupt: there is none that is whole.
            FormatTooNew: a newer version wrote it.
        """
        manifests = [path for path in self.manifests() if at_step in (None, _step_of(path))]
        if not manifests:
            raise CheckpointMissing(
                f"no checkpoint {'' if at_step is None else f'at step {at_step} '}in {self.folder}"
            )
        newest_first = list(reversed(manifests))
        scored = [path for path in self.best() if path in manifests] if best else []
        for path in [*scored, *newest_first]:
            try:
                with malformed_as_corrupt(path):
                    number, env_steps, members = self._load(path, only)
            except CheckpointCorrupt as error:
                corrupt = error
                self._damaged.add(path)
                warnings.warn(f"checkpoint passed over: {error}", OneLineWarning, stacklevel=2)
                continue
            return env_steps, members if migrations is None else formats.migrate(members, number, migrations)
        raise CheckpointCorrupt(f"no whole checkpoint in {self.folder}; the last error: {corrupt}")

    def _load(self, path: Path, only: tuple[str, ...] | None) -> tuple[int, int, dict[str, Any]]:
        """Return the number of a checkpoint's format, its env_steps and its members as they were stored."""
        stored = _verified(path)
        body = _in_this_format(stored)
        chosen = {n: m for n, m in body["members"].items() if only is None or n in only}
        for segment in _segments_of({"members": chosen}):
            self._verify(segment)
        self._rings.found(
            {f"{n}/{p}": r["segments"] for n, m in chosen.items() for p, r in m["rings"].items()}
        )
        members = {name: self._decode(member) for name, member in chosen.items()}
        return stored["format"], body["env_steps"], members

    def _verify(self, segment: dict[str, Any]) -> None:
        path = self._path(segment)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointCorrupt(f"{path}: {error.strerror}") from error
        if found != segment["sha256"]:
            raise CheckpointCorrupt(
                f"{path} has SHA-256 {found[:12]}..., expected {segment['sha256'][:12]}..."
            )

    def _path(self, segment: dict[str, Any]) -> Path:
        name = segment["file"]
        if Path(name).name != name:
            raise CheckpointCorrupt(f"segment {name!r} lies outside its folder")
        return self._segments.folder / name

    def _decode(self, member: dict[str, Any]) -> Any:
        tensors = load_safetensors(self._path(member["tensors"]).read_bytes()) if member["tensors"] else {}
        rings = {path: self._stored_ring(ring) for path, ring in member["rings"].items()}
        return rebuild(json.loads(self._path(member["structure"]).read_bytes()), tensors, rings)

    def _stored_ring(self, ring: dict[str, Any]) -> StoredRing:
        segments = tuple((s["start"], self._path(s)) for s in ring["segments"])
        return StoredRing(ring["written"], ring["capacity"], segments)


def _step_of(manifest: Path) -> int | None:
    """Return the environment step that the name of a manifest tells; None if the file has another kind of name."""
    step = manifest.name.split("-")[0]
    return int(step) if step.isdecimal() else None


def read_manifest(path: Path) -> dict[str, Any]:
    """Return a manifest's body, verified and in the current format.

    Raises:
        CheckpointCorrupt: it differs from the hash in its name, or is no manifest.
        FormatTooNew: a newer version wrote it.
    """
    with malformed_as_corrupt(path):
        return _in_this_format(_verified(path))


def _verified(path: Path) -> dict[str, Any]:
    """Return a manifest's body as it was stored, verified against the hash in its name."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointCorrupt(f"{path}: {error.strerror}") from error
    if sha256(data)[:16] != path.stem.split("-")[-1]:
        raise CheckpointCorrupt(f"manifest {path} differs from the hash in its name")
    body = json.loads(data)
    formats.require_readable(body["format"], path)
    return body


def _in_this_format(body: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest's body in the current format.

    Raises:
        ValueError: a part is missing or of the wrong type.
        LookupError: there never was such a format.
    """
    body = formats.migrate(body, body["format"], MIGRATIONS) | {"format": formats.FORMAT}
    require_manifest(body)
    return body


def _version_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change when a file is written again. Raises OSError if there is none."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _summary_of(body: dict[str, Any]) -> _Summary:
    return _Summary(body["info"].get("score"), frozenset(s["file"] for s in _segments_of(body)))


def _segments_of(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every segment that a manifest's body lists."""
    for member in body["members"].values():
        yield member["structure"]
        if member["tensors"]:
            yield member["tensors"]
        for ring in member["rings"].values():
            yield from ring["segments"]

"""Writes a dataset beside its final place, so that it appears complete or not at all. See `dataset` for its layout."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.datasets.dataset import DATA, FORMAT, METADATA, SUMS, RecordedEpisode, import_h5py, sums_of
from rl_lab.environments.actions import structured_actions
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of, sync, write_atomically
from rl_lab.storage.locking import LOCK, exclusive
from rl_lab.storage.places import require_folder
from rl_lab.types import Obs, UsageError

PACKED_BYTES = 2**16  # arrays from this size on are compressed; smaller ones would gain nothing


@contextmanager
def new_dataset(
    path: str | Path, observation_space: spaces.Space, action_space: spaces.Space
) -> Iterator[DatasetWriter]:
    """Open a writer for a dataset, which appears at its path when the block ends, and not at all if it fails.

    Raises:
        UsageError: the path is occupied, nothing can be written there, or another process is writing there.
        NotWritten: the file system refused.
    """
    path = require_dataset_place(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with ExitStack() as stack:
        with _as_not_written(path):
            temporary.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(exclusive(temporary))
        except UsageError:
            raise UsageError(f"dataset {str(path)!r} is being recorded by another process") from None
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        with _as_not_written(path):
            writer = DatasetWriter(temporary, path, observation_space, action_space)
        stack.callback(writer.close)
        yield writer
        with _as_not_written(path):
            writer.finish()
            _require_free(path)
            temporary.rename(path)  # fails if files of another process have appeared there
            sync(path.parent)


def require_dataset_place(path: str | Path) -> Path:
    """Return the absolute path of a dataset, if one can be written there.

    Raises:
        UsageError: the path is occupied, or nothing can be written there.
    """
    if os.path.isfile(path):
        _require_free(Path(path))
    path = Path(os.path.abspath(require_folder(path, "dataset")))
    _require_free(path)
    return path


def _require_free(path: Path) -> None:
    """Raise UsageError if there is anything but an empty folder at the path."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"dataset {str(path)!r} is there already (allowed: a new folder)")


@contextmanager
def _as_not_written(path: Path) -> Iterator[None]:
    """Turn an OSError into NotWritten with one line."""
    try:
        yield
    except OSError as error:
        raise NotWritten(f"dataset {path} could not be written: {reason_of(error)}") from error


class _Patient:
    """The file that HDF5 writes into. It keeps the first refusal for `raise_refusal`, and goes on as if there was none.

    HDF5 itself can't give up a file that takes no more: it fails again at every attempt to close it, and may then
    crash the process.
    """

    def __init__(self, path: Path):
        self._file = path.open("w+b", buffering=0)
        self._refusal: OSError | None = None
        # h5py asks for them all
        self.seek, self.tell = self._file.seek, self._file.tell
        self.read, self.readinto = self._file.read, self._file.readinto

    def write(self, data: Any) -> None:
        """Write all of the data at the current place."""
        view = memoryview(data).cast("B")
        with self._keeping():
            while len(view):
                view = view[self._file.write(view) :]

    def truncate(self, size: int) -> None:
        """Make the file so many bytes long."""
        with self._keeping():
            self._file.truncate(size)

    def flush(self) -> None:
        """Do nothing: nothing is kept back."""

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._refusal = self._refusal or error

    def raise_refusal(self) -> None:
        """Raise the OSError that came first, if one did."""
        if self._refusal is not None:
            raise self._refusal

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class DatasetWriter:
    """Writes episodes one by one. `provenance` and `metadata` may be changed until `finish`."""

    def __init__(
        self, folder: Path, place: Path, observation_space: spaces.Space, action_space: spaces.Space
    ):
        self.provenance: dict[str, Any] = {}  # becomes "rl_lab" in the metadata
        self.metadata: dict[str, Any] = _described(place.name, observation_space, action_space)
        self.returns: list[float] = []
        self.steps = 0
        self._folder, self._place = folder, place  # where it is written, and where it belongs
        h5py = import_h5py()
        self._disk = _Patient(folder / DATA)
        self._file = h5py.File(self._disk, "w")
        self._action_space = action_space

    def add(self, episode: RecordedEpisode, seed: int) -> None:
        """Append an episode that began with a seed.

        Raises:
            NotWritten: the file system refused.
        """
        number, total = len(self.returns), float(episode.rewards.sum())
        with _as_not_written(self._place):
            group = self._file.create_group(f"episode_{number}")
            group.attrs.update({"id": number, "seed": seed, "total_steps": len(episode), "return": total})
            _write(group, "observations", episode.observations)
            _write(group, "actions", structured_actions(self._action_space, episode.actions))
            for name in ("rewards", "terminations", "truncations"):
                _write(group, name, getattr(episode, name))
            # int8 like Gymnasium's own masks; Minari requires "infos" even if there are none
            masks = {} if episode.masks is None else {"action_mask": episode.masks.astype(np.int8)}
            _write(group, "infos", masks)
            self._disk.raise_refusal()
        self.returns.append(total)
        self.steps += len(episode)

    def finish(self) -> None:
        """Write the metadata and checksums, and flush everything to disk.

        Raises:
            OSError: the file system refused, now or before.
        """
        self.close()
        self._disk.raise_refusal()
        counts = {"total_episodes": len(self.returns), "total_steps": self.steps}
        size = {"dataset_size": round((self._folder / DATA).stat().st_size / 1e6, 1)}  # MB
        own = {"rl_lab": {"format": FORMAT} | self.provenance}
        text = json.dumps(self.metadata | counts | size | own, indent=1)
        write_atomically(self._folder / METADATA, text.encode())
        write_atomically(self._folder / SUMS, sums_of(self._folder).encode())
        (self._folder / LOCK).unlink()  # still held, but not part of the dataset
        sync(self._folder / DATA)
        sync(self._folder)

    def close(self) -> None:
        """Close the data file."""
        self._file.close()
        self._disk.close()


def _described(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> dict[str, Any]:
    """Return the metadata that Minari requires.

    Raises:
        UsageError: Minari can't describe the spaces.
    """
    import_h5py()
    import minari

    identity = re.sub(r"[^-\w]", "_", name)
    if not re.search(r"-v\d+$", identity):
        identity += "-v0"
    if not _has_text_keys(observation_space):
        raise UsageError(f"spaces can't be recorded: a key of {observation_space} isn't text")
    try:
        own = [minari.serialization.serialize_space(space) for space in (observation_space, action_space)]
    except (NotImplementedError, TypeError) as error:
        raise UsageError(f"spaces can't be recorded: {' '.join(str(error).split())}") from error
    return {
        "dataset_id": f"rl_lab/{identity}",
        "minari_version": minari.__version__,
        "data_format": "hdf5",
        "jpeg_encoding": False,  # it is lossy
        "observation_space": own[0],
        "action_space": own[1],
    }


def _has_text_keys(space: spaces.Space) -> bool:
    """Return whether all keys of Dict spaces are text, as names in a file are."""
    if isinstance(space, spaces.Dict):
        return all(isinstance(key, str) and _has_text_keys(part) for key, part in space.spaces.items())
    return not isinstance(space, spaces.Tuple) or all(map(_has_text_keys, space.spaces))


def _write(group: Any, name: str, tree: Obs) -> None:
    """Write a tree of arrays, without Minari's growable chunks, which take five times the space."""
    if isinstance(tree, dict | tuple):
        parts = tree if isinstance(tree, dict) else {f"_index_{i}": part for i, part in enumerate(tree)}
        inner = group.create_group(name)
        for key, part in parts.items():
            _write(inner, key, part)
        return
    packing = {"compression": "gzip", "compression_opts": 1} if tree.nbytes >= PACKED_BYTES else {}
    group.create_dataset(name, data=tree, **packing)

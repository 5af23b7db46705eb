"""Recorded episodes on disk, in Minari's HDF5 layout, which `minari.MinariDataset(folder)` reads.

https://minari.farama.org/content/dataset_standards. A dataset is a folder:

    main_data.hdf5  one group episode_<k> per episode: observations [T + 1, ...]; actions, rewards,
                    terminations, truncations [T, ...]; infos/action_mask [T + 1, A] if the environment has
                    masks; attributes id, seed, total_steps, return
    metadata.json   spaces, environment, counts; under "rl_lab", where the episodes come from
    SHA256SUMS      of the other two files, also for `sha256sum --check`; datasets made elsewhere have none

Reading never runs code: only plain numbers are decoded, links and data outside the file are rejected, and the
environment that metadata.json names is never made (making it would import whatever module it names).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gymnasium import spaces

from rl_lab.environments.actions import flat_actions, mask_size
from rl_lab.storage.files import sha256
from rl_lab.trees import leaves_of
from rl_lab.types import Array, EnvSpec, Obs, UsageError

FORMAT = 1  # of the entries under "rl_lab"; the rest follows Minari
DATA, METADATA, SUMS = "main_data.hdf5", "metadata.json", "SHA256SUMS"
KEPT_BYTES = 2**28  # of decoded episodes kept in memory: small ones take longer to read than to learn from
# What decoding a malformed file may raise.
_MALFORMED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
    MemoryError,
)


class DatasetCorrupt(UsageError):
    """A dataset's bytes aren't those that were written, or they violate the layout."""


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode of T steps as it was played. If its last step has no end flag, it was left unfinished."""

    observations: Obs  # [T + 1, ...], or a dict or tuple of such arrays
    actions: Array  # [T, ...]
    rewards: Array  # float64 [T]
    terminations: Array  # bool [T]
    truncations: Array  # bool [T]
    masks: Array | None  # bool [T + 1, A]: legal actions; None without masks

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)

    @property
    def nbytes(self) -> int:
        """The approximate size in memory, in bytes."""
        leaves = [*leaves_of(self.observations), self.actions, self.rewards]
        return 1_000 + sum(leaf.nbytes for leaf in leaves)


def import_h5py() -> Any:
    """Return the module h5py.

    Raises:
        UsageError: h5py or minari isn't installed.
    """
    try:
        import h5py
        import minari.serialization  # noqa: F401
    except ImportError as error:
        text = f"datasets need {error.name}, which is missing (allowed: after pip install 'rl_lab[offline]')"
        raise UsageError(text) from None
    return h5py


class Dataset:
    """A dataset whose checksums were verified. Its episodes are read on demand.

    Raises:
        UsageError: the folder holds no dataset, an empty one, or one in an unknown format.
        DatasetCorrupt: the bytes aren't those that were written, or the metadata can't be decoded.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.folder = next(
            (f for f in (self.path, self.path / "data") if (f / METADATA).is_file()), self.path
        )
        if not (self.folder / METADATA).is_file():
            raise UsageError(
                f"{str(path)!r} holds no dataset (allowed: a folder with {METADATA} and {DATA}, as Minari's are)"
            )
        import_h5py()
        with _as_corrupt(self.folder / METADATA):
            self.metadata = json.loads((self.folder / METADATA).read_bytes())
            _require_known_format(self.path, self.metadata)
        self.sha256 = _verified_sha256(self.folder)
        with _as_corrupt(self.folder / METADATA):
            self.observation_space = _space(self.metadata["observation_space"])
            self.action_space = _space(self.metadata["action_space"])
            self.num_episodes = int(self.metadata["total_episodes"])
        if self.num_episodes < 1:
            raise UsageError(f"dataset {str(path)!r} holds no episode (allowed: one or more)")
        self._kept: dict[int, RecordedEpisode] = {}
        self._seeds: dict[int, int | None] = {}
        self._free = KEPT_BYTES

    @cached_property
    def _file(self) -> Any:
        return import_h5py().File(self.folder / DATA, "r", locking="best-effort")

    def close(self) -> None:
        """Close the data file if it is open; reading another episode opens it again."""
        if "_file" in self.__dict__:
            self.__dict__.pop("_file").close()

    def refuse(self, spec: EnvSpec) -> str | None:
        """Return why an agent can't learn an environment from this dataset (one line), or None if it can."""
        named = f"dataset {str(self.path)!r}"
        for kind in ("observation_space", "action_space"):
            own, theirs = (" ".join(str(s).split()) for s in (getattr(self, kind), getattr(spec, kind)))
            if getattr(self, kind) != getattr(spec, kind):
                return f"{named} has the {kind} {own}, {spec.env_id} has {theirs} (allowed: the same)"
        if spec.has_lives:
            return f"{named} says nothing of lives (allowed: life_loss_terminates False)"
        if spec.has_mask and self.episode(0).masks is None:
            return f"{named} has no action masks, {spec.env_id} has (allowed: with infos/action_mask)"
        return None

    def episode(self, number: int) -> RecordedEpisode:
        """Return episode `number`, counted from 0.

        Raises:
            DatasetCorrupt: the episode violates the layout or doesn't fit the spaces.
        """
        if (episode := self._kept.get(number)) is None:
            with _as_corrupt(self.folder / DATA, f"episode {number}: "):
                group = _child(self._file, f"episode_{number}")
                episode, seed = self._read(group), group.attrs.get("seed")
            self._seeds[number] = int(seed) if isinstance(seed, int | np.integer) else None
            if episode.nbytes <= self._free:
                # Keep the first ones that fit: visiting every episode in turn would defeat a least-recently-used cache.
                self._kept[number] = episode
                self._free -= episode.nbytes
        return episode

    def seed_of(self, number: int) -> int | None:
        """Return the seed with which episode `number` began; None if it wasn't recorded."""
        if number not in self._seeds:
            self.episode(number)
        return self._seeds[number]

    def _read(self, group: Any) -> RecordedEpisode:
        rewards = _numbers(_child(group, "rewards")).astype(np.float64)
        steps = len(rewards)
        if steps == 0:
            raise ValueError("no step in it")
        terminations, truncations = (
            _numbers(_child(group, name)).astype(np.bool_) for name in ("terminations", "truncations")
        )
        if any(column.shape != (steps,) for column in (rewards, terminations, truncations)):
            raise ValueError("rewards, terminations and truncations differ in length")
        return RecordedEpisode(
            observations=_tree(_child(group, "observations"), self.observation_space, steps + 1),
            actions=flat_actions(
                self.action_space, _tree(_child(group, "actions"), self.action_space, steps)
            ),
            rewards=rewards,
            terminations=terminations,
            truncations=truncations,
            masks=self._masks(group, steps),
        )

    def _masks(self, group: Any, steps: int) -> Array | None:
        infos = _child(group, "infos") if "infos" in group else ()
        if "action_mask" not in infos:
            return None
        masks = _numbers(_child(infos, "action_mask")).astype(np.bool_)
        size = mask_size(self.action_space)
        if not size or masks.shape != (steps + 1, size):
            raise ValueError(f"action_mask has shape {masks.shape} for {self.action_space} and {steps} steps")
        return masks


@contextmanager
def _as_corrupt(path: Path, place: str = "") -> Iterator[None]:
    """Turn errors in decoding `path` into DatasetCorrupt: bytes may be malformed even if their hash is right."""
    try:
        yield
    except UsageError:
        raise
    except _MALFORMED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DatasetCorrupt(f"{path} can't be decoded: {place}{text}") from error


def _require_known_format(path: Path, metadata: Mapping[str, Any]) -> None:
    """Raise UsageError for a format that this version can't read."""
    if metadata["data_format"] != "hdf5":
        raise UsageError(
            f"dataset {str(path)!r} has data_format {metadata['data_format']!r} (allowed: 'hdf5')"
        )
    if (found := metadata.get("rl_lab", {}).get("format", FORMAT)) > FORMAT:
        raise UsageError(f"dataset {str(path)!r} has format {found} (allowed: up to {FORMAT})")


def _verified_sha256(folder: Path) -> str:
    """Return the hash of a dataset's content, after comparing it with SHA256SUMS if that exists.

    Raises:
        DatasetCorrupt: they differ, or a file can't be read.
    """
    try:
        found = sums_of(folder)
        claimed = (folder / SUMS).read_text(encoding="utf8") if (folder / SUMS).exists() else found
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetCorrupt(f"{folder} can't be read: {' '.join(str(error).split())}") from error
    for name, line in zip((DATA, METADATA), found.splitlines(), strict=True):
        if line not in claimed.splitlines():
            raise DatasetCorrupt(f"{folder / name} has SHA-256 {line[:12]}..., which {SUMS} doesn't name")
    return sha256(found.encode())


def sums_of(folder: Path) -> str:
    """Return the hashes of a dataset's files in the format of sha256sum."""
    lines = []
    for name in (DATA, METADATA):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)


def _space(text: str) -> spaces.Space:
    import minari.serialization

    return minari.serialization.deserialize_space(text)


def _child(group: Any, name: str) -> Any:
    """Return a member of a group.

    Raises:
        ValueError: it is missing, or a link.
    """
    links = group.id.links  # a tenth of the cost of get(name, getlink=True)
    if not links.exists(name.encode()):
        raise ValueError(f"{name} is missing")
    if links.get_info(name.encode()).type != import_h5py().h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link (allowed: data in the file itself)")
    return group[name]


def _numbers(node: Any) -> Array:
    """Read an array of plain numbers.

    Raises:
        ValueError: it holds something else, is stored in another file, or is larger than the free memory.
    """
    if node.dtype.kind not in "biuf" or _lies_elsewhere(node):
        raise ValueError(f"{node.name} of {node.dtype} isn't made of plain numbers in the file")
    if node.nbytes > KEPT_BYTES and node.nbytes > psutil.virtual_memory().available:
        raise ValueError(f"{node.name} takes {node.nbytes / 1e9:.1f} GB, more than is free")
    return node[()]


def _lies_elsewhere(node: Any) -> bool:
    how = node.id.get_create_plist()
    return how.get_layout() == import_h5py().h5d.VIRTUAL or how.get_external_count() > 0


def _tree(node: Any, space: spaces.Space, length: int) -> Obs:
    """Read `length` observations or actions of a space, each leaf [length, ...].

    Raises:
        ValueError: the data doesn't fit the space.
    """
    if isinstance(space, spaces.Dict):
        return {key: _tree(_child(node, key), part, length) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
        return tuple(_tree(_child(node, f"_index_{i}"), part, length) for i, part in parts)
    assert space.shape is not None
    whole = node.shape == (length, *space.shape)
    array = _frames(node) if space.dtype == np.uint8 and not whole else _numbers(node)
    if array.shape != (length, *space.shape):
        raise ValueError(f"{node.name} has shape {array.shape}, {(length, *space.shape)} belongs there")
    cast = array.astype(space.dtype, copy=False)
    if not _all_inside(space, array, cast):
        raise ValueError(f"{node.name} has values outside {space}")
    return cast


def _all_inside(space: spaces.Space, array: Array, cast: Array) -> bool:
    """Return whether the values [length, ...] of a discrete space, before and after the cast, are inside it."""
    if isinstance(space, spaces.Box):
        return True
    if isinstance(space, spaces.MultiBinary):
        return bool(((array == 0) | (array == 1)).all())
    counts = getattr(space, "nvec", getattr(space, "n", 0))
    first = np.asarray(space.start)  # type: ignore[attr-defined]
    return bool(((cast == array) & (cast >= first) & (cast <= first + (counts - 1))).all())


def _frames(node: Any) -> Array:
    """Read images that Minari stored as JPEG, uint8 [T, ...].

    Raises:
        ValueError: the data isn't bytes stored in the file.
    """
    from PIL import Image

    of_bytes = import_h5py().check_vlen_dtype(node.dtype) or node.dtype
    if of_bytes != np.uint8 or _lies_elsewhere(node):
        raise ValueError(f"{node.name} of {node.dtype} holds no images")
    return np.stack([np.asarray(Image.open(io.BytesIO(bytes(row)), formats=["JPEG"])) for row in node[()]])

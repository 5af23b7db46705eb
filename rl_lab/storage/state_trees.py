"""State trees: nested dicts, tuples and lists of scalars, strings, arrays, tensors and ring buffers.

`encode` takes a tree apart into a JSON structure, arrays and rings; `rebuild` puts it together again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.files import json_bytes, malformed_as_corrupt


@dataclass(frozen=True)
class Ring:
    """A leaf that is a ring buffer: row r of all rows ever written is at array[r % capacity]."""

    array: np.ndarray  # [capacity, ...]
    written: int  # rows ever written

    @property
    def capacity(self) -> int:
        """The number of rows that the ring holds."""
        return len(self.array)

    def copy_into(self, array: np.ndarray) -> None:
        """Write the rows held to where a ring buffer `array` [capacity, ...] keeps them.

        Raises:
            CheckpointError: `array` has rows of another shape or dtype.
        """
        held = np.arange(max(0, self.written - self.capacity), self.written)
        _copy_rows(self.array[held % self.capacity], held, array)


@dataclass(frozen=True)
class StoredRing:
    """A ring buffer's leaf as it was loaded: verified segments, each decoded when it is needed."""

    written: int
    capacity: int
    segments: tuple[tuple[int, Path], ...]  # (number of the first row, file)

    def copy_into(self, array: np.ndarray) -> None:
        """Write the stored rows to where a ring buffer `array` [capacity, ...] keeps them.

        Raises:
            CheckpointError: `array` has rows of another shape or dtype.
            CheckpointCorrupt: a segment can't be decoded.
        """
        for first, path in self.segments:
            with malformed_as_corrupt(path):
                # Memory-mapped, so that the header's size is checked against the file's.
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
            _copy_rows(rows, np.arange(first, first + len(rows)), array)


LoadedRing = Ring | StoredRing  # Ring: a migration made it


def _copy_rows(rows: np.ndarray, numbers: np.ndarray, array: np.ndarray) -> None:
    """Write rows [R, ...], the `numbers` [R]-th ever written, into a ring buffer [capacity, ...]."""
    if rows.shape[1:] != array.shape[1:] or rows.dtype != array.dtype:
        raise CheckpointError(
            f"stored rows {rows.dtype}{rows.shape[1:]} don't fit {array.dtype}{array.shape[1:]}"
        )
    array[numbers % len(array)] = rows


def weights_sha256(weights: Any) -> str:
    """Return one SHA-256 over a tree: its structure, and its arrays with their paths, dtypes and shapes."""
    tensors: dict[str, np.ndarray] = {}
    structure = encode(weights, "", tensors, {})
    digest = hashlib.sha256(json_bytes(structure))
    for path in sorted(tensors):
        digest.update(f"{path}{tensors[path].dtype}{tensors[path].shape}".encode())
        digest.update(tensors[path].tobytes())
    return digest.hexdigest()


def encode(tree: Any, path: str, tensors: dict[str, np.ndarray], rings: dict[str, Ring]) -> Any:
    """Return the JSON structure of a tree; its arrays, of any shapes, and rings go into `tensors` and `rings`, by path.

    Raises:
        TypeError: a key that is neither a string without "$" in front nor a whole number.
    """
    if isinstance(tree, dict) and any(isinstance(key, int) for key in tree):
        # observations with numbers for keys
        parts = enumerate(tree.items())
        return {
            "$dict": [[_number_or_key(k), encode(v, f"{path}/{i}", tensors, rings)] for i, (k, v) in parts]
        }
    if isinstance(tree, dict):
        return {_key(k): encode(v, f"{path}/{_escape(k)}", tensors, rings) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return {"$tuple": [encode(v, f"{path}/{i}", tensors, rings) for i, v in enumerate(tree)]}
    if isinstance(tree, list):
        return [encode(v, f"{path}/{i}", tensors, rings) for i, v in enumerate(tree)]
    if isinstance(tree, Ring):
        rings[path] = tree
        return {"$ring": path}
    if hasattr(tree, "detach"):  # a torch tensor, without importing torch
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        tensors[path] = np.array(tree, order="C")  # a copy: leaves may be live
        return {"$tensor": path}
    return tree.item() if isinstance(tree, np.generic) else tree


def rings_of(tree: Any, path: str = "") -> Iterator[tuple[str, Ring]]:
    """Yield (path, ring) of each ring in a tree, with the paths that `encode` gives them; nothing is copied."""
    if isinstance(tree, Ring):
        yield path, tree
    elif isinstance(tree, dict):
        numbered = any(isinstance(key, int) for key in tree)
        for i, (key, part) in enumerate(tree.items()):
            yield from rings_of(part, f"{path}/{i if numbered else _escape(key)}")
    elif isinstance(tree, list | tuple):
        for i, part in enumerate(tree):
            yield from rings_of(part, f"{path}/{i}")


def _key(key: Any) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise TypeError(f"state key {key!r} must be a string that doesn't start with '$'")
    return key


def _number_or_key(key: Any) -> int | str:
    return key if isinstance(key, int) and not isinstance(key, bool) else _key(key)


def _escape(key: str) -> str:
    """Escape slashes in a key, as JSON pointers do: in a path they separate keys."""
    return key.replace("~", "~0").replace("/", "~1")


def rebuild(node: Any, tensors: dict[str, np.ndarray], rings: dict[str, StoredRing]) -> Any:
    """Return the tree that `encode` took apart, with the arrays (of any shapes) and rings back in their places."""
    if isinstance(node, list):
        return [rebuild(v, tensors, rings) for v in node]
    if not isinstance(node, dict):
        return node
    special: dict[str, Callable[[Any], Any]] = {
        "$tensor": lambda path: tensors[path],
        "$ring": lambda path: rings[path],
        "$tuple": lambda items: tuple(rebuild(v, tensors, rings) for v in items),
        "$dict": lambda items: {k: rebuild(v, tensors, rings) for k, v in items},
    }
    if len(node) == 1 and (key := next(iter(node))) in special:
        return special[key](node[key])
    return {k: rebuild(v, tensors, rings) for k, v in node.items()}

"""State trees: dicts, tuples and lists over scalars, strings, arrays, tensors and ring buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rl_lab.storage.files import CheckpointError, json_bytes, malformed_as_corrupt


@dataclass(frozen=True)
class Ring:
    """A ring buffer's leaf: row r of all that were ever written is at array[r % capacity]."""

    array: np.ndarray  # [capacity, ...]
    written: int  # rows ever written


@dataclass(frozen=True)
class StoredRing:
    """A ring buffer's leaf as it was loaded: verified segments that are decoded one by one."""

    written: int
    capacity: int
    segments: tuple[tuple[int, Path], ...]  # (number of the first row, file)

    def copy_into(self, array: np.ndarray) -> None:
        """Write the stored rows to where a ring of this capacity keeps them."""
        for first, path in self.segments:
            with malformed_as_corrupt(path):  # mapped: a header's promise is held against the file's size
                rows = np.load(path, mmap_mode="r", allow_pickle=False)
            if rows.shape[1:] != array.shape[1:] or rows.dtype != array.dtype:
                raise CheckpointError(
                    f"stored rows {rows.dtype}{rows.shape[1:]} don't fit {array.dtype}{array.shape[1:]}"
                )
            array[np.arange(first, first + len(rows)) % len(array)] = rows


def weights_sha256(weights: Any) -> str:
    """Return one hash over all arrays of a tree, by their paths."""
    tensors: dict[str, np.ndarray] = {}
    structure = encode(weights, "", tensors, {})
    digest = hashlib.sha256(json_bytes(structure))
    for path in sorted(tensors):
        digest.update(f"{path}{tensors[path].dtype}{tensors[path].shape}".encode())
        digest.update(tensors[path].tobytes())
    return digest.hexdigest()


def encode(tree: Any, path: str, tensors: dict[str, np.ndarray], rings: dict[str, Ring]) -> Any:
    """Return the JSON structure of a tree; arrays and rings move to the side, by path."""
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


def _key(key: Any) -> str:
    if not isinstance(key, str) or key.startswith("$"):
        raise TypeError(f"state key {key!r} must be a string that doesn't start with '$'")
    return key


def _escape(key: str) -> str:
    """Keep a slash within a key apart from those between keys, as in JSON pointers."""
    return key.replace("~", "~0").replace("/", "~1")


def rebuild(node: Any, tensors: dict[str, np.ndarray], rings: dict[str, StoredRing]) -> Any:
    """Return the tree of a structure, with its arrays and rings put back."""
    if isinstance(node, list):
        return [rebuild(v, tensors, rings) for v in node]
    if not isinstance(node, dict):
        return node
    special: dict[str, Callable[[Any], Any]] = {
        "$tensor": lambda path: tensors[path],
        "$ring": lambda path: rings[path],
        "$tuple": lambda items: tuple(rebuild(v, tensors, rings) for v in items),
    }
    if len(node) == 1 and (key := next(iter(node))) in special:
        return special[key](node[key])
    return {k: rebuild(v, tensors, rings) for k, v in node.items()}

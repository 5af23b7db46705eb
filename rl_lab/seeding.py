"""Derives every random number of a run from one seed, through named streams."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np


def seed_of(seed: int, *path: str | int) -> int:
    """Derive a seed in [0, 2**31) from the run's seed and a path such as ("env", i, k).

    It is a cryptographic hash, so neighbouring paths give independent seeds, the same ones on every machine.
    """
    text = "/".join(map(str, (seed, *path)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1


@lru_cache(maxsize=8192)  # it is asked for when an episode begins, and again when it ends
def episode_seed(seed: int, env_index: int, episode: int) -> int:
    """Return the seed with which environment `env_index` starts its training episode `episode`."""
    return seed_of(seed, "env", env_index, episode)


class Streams:
    """The random generators of a run, by name. Each is created on first use; all are saved together."""

    def __init__(self, seed: int):
        self.seed = seed
        self._generators: dict[str, np.random.Generator] = {}
        self._uses_torch = False
        self._gpu: str | None = None

    def __getitem__(self, name: str) -> np.random.Generator:
        if name not in self._generators:
            self._generators[name] = np.random.Generator(np.random.PCG64(seed_of(self.seed, "stream", name)))
        return self._generators[name]

    def use_torch(self, device: str = "cpu") -> None:
        """Seed torch's global generators from the run's seed, and save their states from now on.

        Agents with networks call this once.

        Args:
            device: whose generator is saved beside the CPU's, if it is a GPU.
        """
        import torch

        torch.manual_seed(seed_of(self.seed, "stream", "torch"))
        self._uses_torch = True
        self._gpu = device if device.startswith("cuda") else None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each stream (JSON scalars) and, if used, of torch's global generators (uint8 arrays)."""
        state = {
            "numpy": {name: g.bit_generator.state for name, g in self._generators.items()},
            "torch": _torch_state() if self._uses_torch else None,
        }
        return state if self._gpu is None else state | {"cuda": _cuda_state(self._gpu)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the streams in place: generators already handed out continue from the saved state."""
        for name, bits in state["numpy"].items():
            self[name].bit_generator.state = bits
        if state["torch"] is not None:
            import torch

            torch.set_rng_state(torch.from_numpy(np.array(state["torch"], dtype=np.uint8)))
            if self._gpu is not None and "cuda" in state:
                bits = torch.from_numpy(np.array(state["cuda"], dtype=np.uint8))
                torch.cuda.set_rng_state(bits, self._gpu)


def _torch_state() -> np.ndarray:
    import torch

    return torch.get_rng_state().numpy()


def _cuda_state(device: str) -> np.ndarray:
    import torch

    return torch.cuda.get_rng_state(device).numpy()


@contextmanager
def untouched_torch() -> Iterator[None]:
    """Keep torch's global generators as they are, those of GPUs in use included; torch isn't imported for that."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=list(devices)):
        yield


class EpisodeSeeds:
    """Counts the episodes of each environment and gives the seed of the next one."""

    def __init__(self, seed: int, num_envs: int, episodes: tuple[int, ...] | None = None):
        self.seed = seed
        self.episodes = episodes or (0,) * num_envs  # replaced, never mutated

    def current(self) -> list[int]:
        """Return the seed of each environment's open episode, [N]."""
        return [episode_seed(self.seed, i, k) for i, k in enumerate(self.episodes)]

    def advance(self, done: np.ndarray) -> list[int | None]:
        """Open the next episode where `done`, bool [N]; return its seed there and None elsewhere, [N]."""
        episodes, seeds = list(self.episodes), [None] * len(self.episodes)  # type: tuple[list[int], list[int | None]]
        for i in done.nonzero()[0].tolist():  # a few of many
            episodes[i] += 1
            seeds[i] = episode_seed(self.seed, i, episodes[i])
        self.episodes = tuple(episodes)
        return seeds

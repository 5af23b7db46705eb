"""Measure how long checkpoints of a large replay of images hold learning up.

    python scripts/saving.py --json saving.json

A replay takes random frames of 84x84 pixels, as fast as it can, and is saved again and again; nothing is learned in
between, so that rows gather many times faster than in training and writing ahead must be waited for. The defaults
take 7 GB of memory, 9 GB of the disk of the temporary folder (or of --folder) and a few minutes.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file, require_folder
from rl_lab.types import EnvSpec, Step, UsageError

STACK, SIZE, EPISODE_STEPS = 4, 84, 1_000
SPACE = spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8)


@dataclass(frozen=True)
class Saved:
    """What one checkpoint took."""

    frames: int  # so far
    seconds: float  # that learning would have stood still for the checkpoint
    ahead_seconds: float  # and for writing ahead, since the checkpoint before, waiting for the disk included
    disk_mb: float  # of all checkpoints that are kept


def steps(num_envs: int) -> Iterator[Step]:
    """Yield steps of random frames, in episodes of a thousand steps."""
    pool = np.random.default_rng(0).integers(0, 256, 2**24 + num_envs * SIZE * SIZE, np.uint8)
    no, nothing = np.zeros(num_envs, np.bool_), np.zeros(num_envs, np.float32)
    obs, first = np.zeros((num_envs, *SPACE.shape), np.uint8), ~no
    for number in range(sys.maxsize):
        start = number * 7_919 % 2**24
        frame = pool[start : start + num_envs * SIZE * SIZE].reshape(num_envs, 1, SIZE, SIZE)
        next_obs = np.concatenate((obs[:, 1:], frame), axis=1)
        over = np.full(num_envs, (number + 1) % EPISODE_STEPS == 0)
        action = np.zeros(num_envs, np.int64)
        yield Step(obs, action, nothing, over, no, next_obs, first, (), (), None, None)
        obs, first = next_obs, over


def measure(frames: int, every: int, num_envs: int, folder: Path) -> Iterator[Saved]:
    """Fill a prioritised replay of so many frames, and save it at each multiple of `every`."""
    spec = EnvSpec("images", SPACE, spaces.Discrete(4), num_envs, None, False, frame_stack=STACK)
    replay, store = TransitionReplay(frames, spec, sampler=Prioritised()), Checkpoints(folder)
    taken, look_at, ahead = 0, 256, 0.0

    def members() -> dict[str, Any]:
        return {"agent": {"replay": replay.state_dict()}}

    for step in steps(num_envs):
        replay.add(step)
        taken += num_envs
        if taken % every < num_envs:
            began = perf_counter()
            store.save(taken, members())
            yield Saved(taken, perf_counter() - began, ahead, size_of(folder) / 1e6)
            ahead = 0.0
        elif taken >= look_at:
            began = perf_counter()
            look_at = taken + store.write_ahead(taken, members())
            ahead += perf_counter() - began
        if taken >= frames:
            return


def size_of(folder: Path) -> int:
    """Return the size of all files in a folder in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def number(text: str) -> int:
    """Return a whole number of at least 1. Raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} (allowed: a whole number of at least 1)")
    return int(text)


def show(options: argparse.Namespace) -> list[Saved]:
    """Measure, print what was found, and return it. Raises UsageError where so many frames don't fit into memory."""
    found = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for saved in measure(options.frames, options.every, options.num_envs, Path(folder)):
            found.append(saved)
            print(
                f"{saved.frames} frames: saved in {saved.seconds:.2f} s after {saved.ahead_seconds:.2f} s"
                f" of writing ahead; {saved.disk_mb:.0f} MB are on the disk"
            )
    return found


def main() -> int:
    """Measure, print and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=number, default=1_000_000, help="frames that the replay holds")
    parser.add_argument("--every", type=number, default=200_000, help="frames between checkpoints")
    parser.add_argument("--num-envs", type=number, default=1, help="environments that the frames come from")
    parser.add_argument("--folder", help="where a folder is made for the checkpoints, and removed in the end")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    try:
        if options.json:
            require_file(options.json, "json").parent.mkdir(parents=True, exist_ok=True)
        if options.folder:
            require_folder(options.folder, "folder").mkdir(parents=True, exist_ok=True)
        found = show(options)
    except UsageError as error:
        parser.error(str(error))
    if options.json:
        asked = {"frames": options.frames, "every": options.every, "num_envs": options.num_envs}
        write_json(options.json, asked | {"checkpoints": [asdict(saved) for saved in found]})
    return 0


if __name__ == "__main__":
    sys.exit(main())

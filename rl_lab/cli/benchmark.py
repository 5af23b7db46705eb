"""The command that times the lab beside a peer."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal

import tyro

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch reads it

from rl_lab.benchmarks.work import Work, row
from rl_lab.checks import at_least
from rl_lab.cli.parsing import parse
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file
from rl_lab.training.devices import set_threads
from rl_lab.types import UsageError

ABOUT = """Time the lab beside a peer: both sides take turns in one run, and the ratio of their medians is what
counts. Above 1 the lab is faster."""

Name = Literal[
    "acting", "atari", "batched", "dp", "dqn", "guards", "nn", "ppo", "replay", "sb3", "tabular", "vectors", "viewer"
]  # fmt: skip
BENCHMARKS: dict[Name, str] = {
    "acting": "training", "atari": "atari", "batched": "seeds", "dp": "dp", "dqn": "training", "guards": "guards",
    "nn": "nn", "ppo": "training", "replay": "replay", "sb3": "training", "tabular": "tabular", "vectors": "vectors",
    "viewer": "viewer",
}  # fmt: skip
"""The module in rl_lab.benchmarks of each benchmark; only that of the one asked for is imported."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the command takes."""

    name: Annotated[Name, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """Benchmark: acting, atari, batched, dp, dqn, guards, nn, ppo, replay, sb3, tabular, vectors, viewer."""
    json: str | None = None
    """File for the results."""
    turns: int = 5
    """Times that each side is run."""

    def __post_init__(self) -> None:
        at_least(self, 1, "turns")


def benchmark(argv: Sequence[str]) -> int:
    """Run one benchmark by name; return the exit code.

    Raises:
        UsageError: a wrong option, a peer that isn't installed, or a place where no file can be written.
        NotWritten: the file system refused the results; a file that was there is as it was.
    """
    options: BenchmarkOptions = parse(BenchmarkOptions, argv, program="rl-lab benchmark", about=ABOUT)
    if options.json is not None:
        require_file(options.json, "json")
    set_threads(1)
    results = [
        compare(work, options.turns) if isinstance(work, Work) else work for work in works_of(options.name)
    ]
    if options.json is not None:
        write_json(options.json, {"results": results})
    return 0


def works_of(name: Name) -> list[Work | dict[str, Any]]:
    """Return the work of a benchmark; rows of results that are measured already may stand among it.

    Raises:
        UsageError: the peer isn't installed.
    """
    try:
        return getattr(import_module(f"rl_lab.benchmarks.{BENCHMARKS[name]}"), name)()
    except ImportError as error:
        raise UsageError(f"benchmark {name!r} needs a package that is missing: {error}") from error


def compare(work: Work, turns: int) -> dict[str, Any]:
    """Let the sides take turns, after one turn each that isn't counted; return a row of results."""
    work.ours(), work.theirs()
    pairs = [(work.ours(), work.theirs()) for _ in range(turns)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(t / o for o, t in pairs)
    more: dict[str, Any] = {"ratio_range": [ratios[0], ratios[-1]]}
    if work.moved_bytes:
        from rl_lab.benchmarks.dp import copy_bandwidth

        more["bandwidth_share"] = work.moved_bytes / copy_bandwidth() / ours
    more |= work.more()
    told = row(work.work, work.peer, "s", ours, theirs, **more)
    print("  " + ", ".join(f"{name} {value}" for name, value in more.items()), flush=True)
    return told

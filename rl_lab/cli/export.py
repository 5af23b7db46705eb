"""The command that writes a policy as files that run without the lab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.exporting.wanted import Wanted
from rl_lab.runs.description import read_description

ABOUT = """Write the greedy policy of a run as an ONNX or TorchScript file that runs without the lab, with a script that
runs it, a description of its inputs and outputs, smaller variants, a table of what these cost, and a card: one page
about the policy. Its actions are compared with the lab's on 1,000 observations."""


@dataclass(frozen=True)
class ExportOptions:
    """What the command takes."""

    run_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """Run directory whose policy to export."""
    to: Literal["onnx", "torch"] = "onnx"
    """Kind of file: onnx runs in onnxruntime, torch (TorchScript) in torch."""
    out: str | None = None
    """Folder of the files; by default RUN_DIR/export."""
    best: bool = False
    """Export the checkpoint with the best evaluation instead of the last."""
    int8: bool = Wanted.int8
    """Write a file with weights of 8 bits too."""
    prune: float | None = Wanted.prune
    """Write a file too in which this share of each hidden layer's weights, the smallest ones, is 0."""
    distil: tuple[int, ...] = Wanted.distil
    """Write a network of these widths too that has learned to imitate the policy (agent clone)."""
    distil_episodes: int = Wanted.distil_episodes
    """Episodes that are recorded for --distil."""
    distil_steps: int = Wanted.distil_steps
    """Environment steps of the recording that the clone learns from, over and over."""
    episodes: int = Wanted.episodes
    """Seeded evaluation episodes of each policy in the table."""
    card: bool = Wanted.card
    """Write card.html, with a film of an episode."""


def export(argv: Sequence[str]) -> int:
    """Export the policy of a run and print what was found; return the exit code.

    Raises:
        UsageError: a wrong option or value, no run there, a policy that can't be exported, or a missing package.
        Disagrees: the file takes other actions than the lab.
        NotWritten: the file system refused.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    options: ExportOptions = parse(ExportOptions, argv, program="rl-lab export", about=ABOUT)
    read_description(Path(options.run_dir))  # before torch is loaded
    from rl_lab.exporting.export import export as write
    from rl_lab.exporting.table import legend, printed

    wanted = Wanted(**{field.name: getattr(options, field.name) for field in fields(Wanted)})
    found = write(options.run_dir, options.to, options.out, best=options.best, wanted=wanted)
    print(found.agreement)
    print(printed(found.rows))
    print(legend(options.episodes))
    for line in [*(f"{row.name}: {row.note}" for row in found.rows if row.note), *found.notes]:
        print(line)
    print(f"written to {found.folder}: " + ", ".join(path.name for path in found.files))
    return 0

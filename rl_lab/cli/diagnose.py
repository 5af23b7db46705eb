"""The command that says why a run's policy falls short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.storage.places import require_folder

ABOUT = """Say why a run's policy falls short of the optimum. On a finite MDP its exact regret is split into states
never visited (exploration), what its table or network can't express (representation) and the rest (optimisation and
estimation), and the bias of its loss is computed. On all environments its values are compared with what follows."""


@dataclass(frozen=True)
class DiagnoseOptions:
    """What the command takes."""

    run_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """Run directory to diagnose; diagnosis.json and pictures/diagnosis_*.png are written into it."""
    episodes: int | None = None
    """Evaluation episodes on which values are compared; by default as many as in the run's evaluations, 0 for none."""
    fits: int = 4
    """Initialisations from which a network is fitted, to find what it can express."""
    fit_steps: int = 1_000
    """Most gradient steps of each fit."""
    pictures: bool = True
    """Draw pictures."""


def diagnose(argv: Sequence[str]) -> int:
    """Diagnose a run, print what was found and write it beside the run; return the exit code.

    Raises:
        UsageError: a wrong option or value, no run there, or a folder that can't be written into.
        NotWritten: the file system refused; files that were there are as they were.
        CheckpointCorrupt: no checkpoint of the run is whole.
        FormatTooNew: a newer version wrote the run.
    """
    from rl_lab.diagnosis.diagnose import diagnose as find
    from rl_lab.diagnosis.files import write_diagnosis

    options: DiagnoseOptions = parse(DiagnoseOptions, argv, program="rl-lab diagnose", about=ABOUT)
    if Path(options.run_dir).is_dir():
        require_folder(options.run_dir, "run_dir")
    found = find(options.run_dir, episodes=options.episodes, fits=options.fits, fit_steps=options.fit_steps)
    print(found)
    files = write_diagnosis(found, options.run_dir, pictures=options.pictures)
    print("written: " + ", ".join(map(str, files)))
    return 0

"""The command that makes W&B runs from the local files of runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from rl_lab.cli.parsing import parse
from rl_lab.types import UsageError

ABOUT = """Make one W&B run of each run directory from its local files: a run that was resumed becomes one W&B run over
one axis of environment steps. Offline, the files are written to RUN_DIR/wandb/ and can be uploaded with `wandb sync`;
online, they are uploaded at once."""


@dataclass(frozen=True)
class SyncOptions:
    """What the command takes."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """Run directories, or folders of studies: every run beneath them."""
    rebuild: bool = False
    """Make the W&B run anew, even if there is one that holds all rows."""
    mode: Literal["offline", "online"] | None = None
    """Where to; by default what W&B's variables and settings say, else online if there is an API key, else offline."""


def sync(argv: Sequence[str]) -> int:
    """Make W&B runs of run directories; return the exit code.

    A run whose W&B run can't be made is named in a line of its own; the others are made all the same.

    Raises:
        UsageError: a wrong option, a folder without a run, or W&B is disabled.
    """
    options: SyncOptions = parse(SyncOptions, argv, program="rl-lab sync", about=ABOUT)
    if not options.folders:
        raise UsageError("RUN_DIR is missing (allowed: run directories, or folders of studies)")
    mode = _mode(options.mode)
    failed = 0
    made: list[Path] = []
    runs = dict.fromkeys(run for folder in options.folders for run in runs_beneath(Path(folder)))
    for run_dir in runs:
        folder = _made(run_dir, mode, options.rebuild)
        failed += folder is None
        made += [folder] if folder is not None else []
    if made and mode == "offline":
        print(f"to upload: wandb sync {' '.join(map(str, made))}")
    return 1 if failed else 0


def _mode(asked: str | None) -> str:
    from rl_lab.runs.wandb_settings import resolve_mode

    found = resolve_mode(asked)
    if found.mode == "disabled":
        raise UsageError(f"W&B is disabled by {found.source} (allowed: --mode offline, --mode online)")
    return found.mode


def runs_beneath(folder: Path) -> Iterator[Path]:
    """Yield a run directory itself, or those beneath a folder.

    Beneath a folder, a config.json that describes no run belongs to something else, unless there are rows beside it.

    Raises:
        UsageError: there is none, or the folder's own config.json describes no run.
    """
    from rl_lab.runs.description import CONFIG, read_description

    if (folder / CONFIG).is_file():
        read_description(folder)
        yield folder
        return
    found = [path.parent for path in sorted(folder.rglob(CONFIG))]
    own = [run for run in found if "wandb" not in run.relative_to(folder).parts]  # W&B keeps copies of files
    runs = [run for run in own if _is_run(run)]
    if not runs:
        raise UsageError(
            f"{str(folder)!r} holds no run (allowed: a run directory, or a folder with some beneath it)"
        )
    yield from runs


def _is_run(folder: Path) -> bool:
    from rl_lab.runs.description import read_description
    from rl_lab.runs.rows import METRICS

    try:
        read_description(folder)
    except UsageError:
        return (folder / METRICS).is_file()  # damaged, or of a newer version: named when its turn comes
    return True


def _made(run_dir: Path, mode: str, rebuild: bool) -> Path | None:
    """Make the W&B run of one run directory unless there is one; return its folder, or None after saying why not."""
    from rl_lab.runs.description import read_description
    from rl_lab.storage.errors import NotWritten

    try:
        read_description(run_dir)
        return _sync(run_dir, mode, rebuild)
    except (UsageError, NotWritten) as error:
        print(f"error: {run_dir}: {error}", file=sys.stderr)
        return None


def _sync(run_dir: Path, mode: str, rebuild: bool) -> Path | None:
    """Make the W&B run of one run directory unless there is one; return its folder, or None if that failed.

    Raises:
        UsageError: the run is being trained.
        NotWritten: the file system refused.
    """
    from rl_lab.runs.tracking import rebuild_command
    from rl_lab.runs.wandb_segments import whole_segment
    from rl_lab.storage.locking import exclusive

    with exclusive(run_dir):
        whole = None if rebuild else whole_segment(run_dir, mode)
        if whole is not None and whole.folder is not None:
            print(f"{run_dir}: already whole in {run_dir / 'wandb' / whole.folder} (--rebuild makes it anew)")
            return run_dir / "wandb" / whole.folder
        command, environment = rebuild_command(run_dir, mode)
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        whole = whole_segment(run_dir, mode)
    if done.returncode or whole is None or whole.folder is None:
        cause = (done.stderr.strip().splitlines() or [f"the mirror ended with {done.returncode}"])[-1]
        print(f"error: {run_dir}: {cause}", file=sys.stderr)
        return None
    print(
        f"{run_dir}: {'uploaded from' if mode == 'online' else 'written to'} {run_dir / 'wandb' / whole.folder}"
    )
    return run_dir / "wandb" / whole.folder

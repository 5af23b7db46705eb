"""Which options of `rl-lab watch` go together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rl_lab.types import UsageError


def require_consistent(options: Any) -> None:
    """Check options that rule each other out, so that none is ignored.

    Args:
        options: of the command, a `WatchOptions`.

    Raises:
        UsageError: two of them are given, or a number that isn't allowed.
    """
    if options.episodes < 1:
        raise UsageError(f"episodes must be at least 1, got {options.episodes}")
    if options.seed is not None and options.seed < 0:
        raise UsageError(f"--seed {options.seed} is negative (allowed: 0 or more)")
    if options.run_dir == "human":
        raise UsageError("'human' plays no film (allowed: a run directory, a model.zip of SB3's, or random)")
    files = {"--video": options.video, "--gif": options.gif, "--sheet": options.sheet}
    named_files = {f"{name} {file}": file is not None for name, file in files.items()}
    if options.human:
        progress = {f"--progress {options.progress}": options.progress is not None}
        _refuse("--human shows a window and writes no file", named_files | progress)
    choices = {
        f"--episodes {options.episodes}": options.episodes != 1,
        "--best": options.best,
        f"--checkpoint {options.checkpoint}": options.checkpoint is not None,
        f"--saliency {options.saliency}": options.saliency is not None,
    }
    if options.progress is not None:
        others = {f"--training-episode {options.training_episode}": options.training_episode is not None}
        what = f"--progress {options.progress} shows one episode of each kept checkpoint of a run"
        _refuse(what, named_files | choices | others | _of_no_run(options))
    if options.training_episode is not None:
        _require_past(options, choices)
    if options.best and options.checkpoint is not None:
        _refuse("--best is one checkpoint", {f"--checkpoint {options.checkpoint}": True})


def _require_past(options: Any, choices: dict[str, bool]) -> None:
    """Check that training episodes can be replayed. Raises UsageError if not."""
    from rl_lab.runs.description import read_description
    from rl_lab.watching.past import require_episodes

    what = f"--training-episode {options.training_episode} replays the actions of training episodes"
    _refuse(what, choices | {f"--seed {options.seed}": options.seed is not None} | _of_no_run(options))
    require_episodes(read_description(Path(options.run_dir)).config, options.training_episode)


def _of_no_run(options: Any) -> dict[str, bool]:
    """Return the options of what is no run directory, and whether they are given."""
    return {
        f"--env-id {options.env_id}": options.env_id is not None,
        f"--env-kwargs {' '.join(options.env_kwargs)}": bool(options.env_kwargs),
        f"--algo {options.algo}": options.algo is not None,
        f"--statistics {options.statistics}": options.statistics is not None,
        "--trust-pickles": options.trust_pickles,
    }


def _refuse(what: str, others: Mapping[str, bool]) -> None:
    """Raise UsageError if other options are given beside one that would ignore them."""
    if given := [option for option, is_given in others.items() if is_given]:
        raise UsageError(f"{what} (allowed: without {' and '.join(given)})")

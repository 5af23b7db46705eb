"""Several policies that are watched side by side, from what a command line says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rl_lab.types import UsageError
from rl_lab.watching.sources import (
    Environment,
    ModelFile,
    Watched,
    is_model_file,
    is_run,
    of_its_own,
    watched,
)

LAST, BEST = "last", "best"


def watched_beside(
    specs: Sequence[str],
    checkpoints: Sequence[str] = (),
    environment: Environment | None = None,
    model_file: ModelFile | None = None,
) -> list[Watched]:
    """Return what is watched side by side.

    Args:
        specs: see `watched`. A single one with several checkpoints is watched once with each.
        checkpoints: of runs: "last", "best", or the environment step of a kept one; one for all of them or one each.
        environment: of policies without a run; by default that of the run beside them.
        model_file: how files of SB3's are read.

    Raises:
        UsageError: as in `watched`; or a checkpoint that means nothing, or another number of them.
    """
    if len(specs) == 1:
        specs = list(specs) * max(1, len(checkpoints))
    if len(checkpoints) not in (0, 1, len(specs)):
        raise UsageError(
            f"{len(checkpoints)} checkpoints for {len(specs)} policies (allowed: one for all, or one for each)"
        )
    choices = [_Choice.of(word) for word in checkpoints] or [_Choice()]
    for_all = len(choices) == 1
    runs = [i for i, spec in enumerate(specs) if is_run(spec)]
    files = [i for i, spec in enumerate(specs) if is_model_file(spec)]
    if model_file is not None and not files:
        raise UsageError(
            f"{specs[0]!r} is no model file of SB3's, and these options are for such files (allowed: F.zip)"
        )
    found: dict[int, Watched] = {}
    for i in runs:
        choice = choices[0 if for_all else i]
        found[i] = watched(specs[i], best=choice.best, at_step=choice.at_step)
    if runs and environment is not None:
        raise UsageError(of_its_own(specs[runs[0]]))
    if runs:
        environment = Environment(like=found[runs[0]].config)
    for i in range(len(specs)):
        if i not in found:  # what is said of all is said of the runs, if there are any
            choice = _Choice() if for_all and runs else choices[0 if for_all else i]
            file = model_file if i in files else None
            found[i] = watched(
                specs[i],
                best=choice.best,
                at_step=choice.at_step,
                environment=environment,
                model_file=file,
            )
    return [found[i] for i in range(len(specs))]


@dataclass(frozen=True)
class _Choice:
    """A checkpoint of a run."""

    best: bool = False
    at_step: int | None = None

    @classmethod
    def of(cls, word: str) -> _Choice:
        """Read a word. Raises UsageError if it means nothing."""
        if word in (LAST, BEST):
            return cls(best=word == BEST)
        if not (word.isascii() and word.isdigit()):
            raise UsageError(
                f"checkpoint {word!r} is unknown (allowed: {LAST}, {BEST}, or the environment step of a kept one)"
            )
        return cls(at_step=int(word))

"""Writes a run's policy for use elsewhere: the file, what runs it, smaller ones, table and card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rl_lab.evaluation.watch import film
from rl_lab.exporting.acting import Trained, read_trained
from rl_lab.exporting.agreement import Agreement, Disagrees, agreement
from rl_lab.exporting.card import card
from rl_lab.exporting.described import play_script, write_description_text
from rl_lab.exporting.files import (
    ExportedPolicy,
    Runner,
    require_packages,
    runner_of,
    write_onnx,
    write_torch,
)
from rl_lab.exporting.measure import Measured, Variant, measure
from rl_lab.exporting.smaller import distil, pruned, require_network, require_student, write_int8
from rl_lab.exporting.table import as_json, markdown
from rl_lab.exporting.wanted import Wanted
from rl_lab.storage.files import write_atomically
from rl_lab.storage.places import require_folder
from rl_lab.storage.staging import staged
from rl_lab.types import Array, UsageError

SUFFIXES = {"onnx": ".onnx", "torch": ".pt"}
STEMS = ("policy", "policy.int8", "policy.pruned", "policy.distilled")
CALIBRATION = 200  # inputs kept for the ranges of activations


@dataclass(frozen=True)
class Exported:
    """What was written and measured."""

    folder: Path
    files: list[Path]
    agreement: Agreement
    rows: list[Measured]
    notes: list[str]


def export(
    run_dir: str | Path,
    to: str = "onnx",
    out: str | Path | None = None,
    *,
    best: bool = False,
    wanted: Wanted | None = None,
    doing: Callable[[str], None] = lambda what: None,
) -> Exported:
    """Write the greedy policy of a run directory as files that run without the lab, and check and measure them.

    All files take their places together at the end; if anything fails, an earlier export stays as it was.

    Args:
        to: "onnx" or "torch".
        out: the folder; by default RUN_DIR/export.
        best: take the checkpoint with the best evaluation instead.
        doing: called with what is begun, in a few words.

    Raises:
        UsageError: a value that isn't allowed, a policy that can't be exported, or a package that is missing.
        Disagrees: the file takes other actions than the lab.
        NotWritten: the file system refused.
        CheckpointCorrupt: no checkpoint is whole.
        FormatTooNew: a newer version wrote the run.
    """
    wanted = wanted or Wanted()
    _require_allowed(to, wanted)
    if out is not None:
        require_folder(out, "out")  # before anything is read
    trained = read_trained(run_dir, best=best)
    _require_possible(trained, wanted)
    folder = require_folder(Path(run_dir) / "export" if out is None else out, "out")
    if wanted.distil and (folder / "distilled").exists():
        raise UsageError(f"{str(folder / 'distilled')!r} exists already (allowed: another --out)")
    with staged(folder) as place, _removed_if_it_fails(folder / "distilled", wanted.distil):
        found = _Export(trained, to, folder, place, wanted, doing).run()
    older = _left_by_others(found)
    return (
        replace(found, notes=[*found.notes, f"from an earlier export: {', '.join(older)}"])
        if older
        else found
    )


def _left_by_others(found: Exported) -> list[str]:
    """Return the names of the files beside an export that another one has written."""
    policies = [f"{stem}{suffix}" for stem in STEMS for suffix in SUFFIXES.values()]
    names = [*policies, "policy.distilled.json", "card.html", "replay.mp4"]
    written = {path.name for path in found.files}
    return [name for name in names if name not in written and (found.folder / name).is_file()]


@contextmanager
def _removed_if_it_fails(clone: Path, made: object) -> Iterator[None]:
    """Remove the run of a clone that is made in the block, whose place can't be taken by another, if that fails."""
    try:
        yield
    except BaseException:
        if made:
            shutil.rmtree(clone, ignore_errors=True)
        raise


def _require_allowed(to: str, wanted: Wanted) -> None:
    if to not in SUFFIXES:
        raise UsageError(f"to {to!r} is unknown (allowed: {', '.join(SUFFIXES)})")
    if to == "onnx":
        require_packages()
    elif wanted.int8:
        raise UsageError(
            "--int8 goes with --to onnx alone: onnxruntime quantises (allowed: --prune, --distil)"
        )
    counts = {
        "episodes": wanted.episodes,
        "distil-episodes": wanted.distil_episodes,
        "distil-steps": wanted.distil_steps,
    }
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
    if wanted.prune is not None and not 0 < wanted.prune < 1:
        raise UsageError(f"prune must lie between 0 and 1, got {wanted.prune}")


def _require_possible(trained: Trained, wanted: Wanted) -> None:
    for option, is_wanted in (("--int8", wanted.int8), ("--prune", wanted.prune is not None)):
        if is_wanted:
            require_network(trained, option)
    if wanted.distil:
        require_student(trained, wanted.distil)


class _Export:
    """The work of one export, whose files are written to `place` and move to `folder` afterwards."""

    def __init__(
        self,
        trained: Trained,
        to: str,
        folder: Path,
        place: Path,
        wanted: Wanted,
        doing: Callable[[str], None],
    ):
        self._trained, self._suffix, self._folder, self._place = trained, SUFFIXES[to], folder, place
        self._wanted, self._doing = wanted, doing
        self._write = write_onnx if to == "onnx" else write_torch
        self._variants = [Variant("lab", trained.policy)]
        self._files: list[Path] = []
        self._notes: list[str] = []

    def run(self) -> Exported:
        trained = self._trained
        self._doing("writing the policy")
        whole = self._file("policy")
        self._write(whole, trained)
        found, inputs = self._compared(whole)
        self._put("policy.json", write_description_text(trained))
        self._put("play.py", play_script(trained, whole.name))
        self._add("exported", whole, trained)
        self._add_smaller(whole, inputs)
        self._doing("measuring")
        rows = measure(trained, self._variants, episodes=self._wanted.episodes)
        facts = {
            "agent": trained.description.agent,
            "env_id": trained.description.config.env_id,
            "episodes": self._wanted.episodes,
            "observations": found.observations,
            "equal_actions": found.equal,
            "ties": found.ties,
        }
        self._put("table.json", as_json(rows, facts))
        self._put("table.md", markdown(rows, self._wanted.episodes).encode())
        if self._wanted.card:
            self._doing("making the card")
            self._put_card(rows)
        files = [self._folder / path.name for path in self._files]
        return Exported(self._folder, files, found, rows, self._notes)

    def _compared(self, whole: Path) -> tuple[Agreement, list[Mapping[str, Array]]]:
        """Compare the file with the lab's policy; return the result and some of the inputs met.

        Raises:
            Disagrees: other actions are taken.
        """
        self._doing("comparing its actions with the lab's")
        inputs: list[Mapping[str, Array]] = []
        run = _keeping(runner_of(whole), inputs, CALIBRATION)
        found = agreement(self._trained, ExportedPolicy(run, self._trained.signature))
        if not found.holds:
            raise Disagrees(f"{self._folder / whole.name} isn't to be used, and wasn't written: only {found}")
        return found, inputs

    def _add_smaller(self, whole: Path, inputs: Sequence[Mapping[str, Array]]) -> None:
        wanted, trained = self._wanted, self._trained
        if wanted.int8:
            self._doing("quantising")
            path = self._file("policy.int8")
            self._add("int8", path, trained, write_int8(path, whole, inputs))
        if wanted.prune is not None:
            self._doing("pruning")
            module, how = pruned(trained, wanted.prune)
            path = self._file("policy.pruned")
            self._write(path, trained, module)
            self._add(f"pruned {100 * wanted.prune:g} %", path, trained, how)
        if wanted.distil:
            self._doing("distilling")
            student = distil(
                trained,
                wanted.distil,
                self._folder / "distilled",
                episodes=wanted.distil_episodes,
                steps=wanted.distil_steps,
            )
            path = self._file("policy.distilled")
            self._write(path, student)
            self._put("policy.distilled.json", write_description_text(student))
            widths = "-".join(map(str, wanted.distil))
            how = f"clone of {wanted.distil_episodes} episodes, {wanted.distil_steps:,} steps"
            self._add(f"distilled {widths}", path, student, how)

    def _add(self, name: str, path: Path, trained: Trained, note: str = "") -> None:
        self._files.append(path)
        self._variants.append(Variant(name, ExportedPolicy(runner_of(path), trained.signature), path, note))

    def _put_card(self, rows: list[Measured]) -> None:
        path = self._place / "replay.mp4"
        missing = film(path, self._trained.policy, self._trained.description.config, 1)
        missing = missing and missing.replace(str(self._place), str(self._folder))
        shown = missing is None or not missing.startswith("no video")
        replay = "The first evaluation episode, played by the lab's policy." if shown else f"{missing}."
        if missing is not None:
            self._notes.append(missing)
            replay = f"{replay} {missing}." if shown else replay
        self._put("card.html", card(self._trained, rows, path if shown else None, replay, self._files))
        if shown:
            self._files.append(path)

    def _file(self, stem: str) -> Path:
        return self._place / f"{stem}{self._suffix}"

    def _put(self, name: str, content: bytes) -> None:
        write_atomically(self._place / name, content)
        self._files.append(self._place / name)


def _keeping(run: Runner, inputs: list[Mapping[str, Array]], most: int) -> Runner:
    """Return a runner that keeps the first inputs it is given."""

    def kept(given: Mapping[str, Array]) -> list[Array]:
        if len(inputs) < most:
            inputs.append({name: x.copy() for name, x in given.items()})
        return run(given)

    return kept

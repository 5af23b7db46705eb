"""Compares agents: runs a study and writes its page, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rl_lab.checks import count, plain_value
from rl_lab.runs.watched import is_watched
from rl_lab.storage.places import require_folder
from rl_lab.studies.live import Board, NoBoard, make_board
from rl_lab.studies.page.curves import STEPS, curve_panel
from rl_lab.studies.page.static import inline_svg
from rl_lab.studies.publishing import publish
from rl_lab.studies.report import write_report
from rl_lab.studies.results import RETURN, StudyResults, load_study
from rl_lab.studies.study import Study, run_study
from rl_lab.studies.table import html_of, table_of

MOST_NAMED = 4  # rows of the table in a repr
_print = partial(print, flush=True)  # flushed line by line, even into a pipe


@dataclass(frozen=True, repr=False)
class Comparison:
    """What a comparison leaves behind. A notebook shows it as a table with learning curves."""

    page: Path
    """The page, with everything it shows inside it."""
    failures: Mapping[str, str]
    """Why runs failed (one line each), by names like "FrozenLake-v1 q-learning seed 1"; empty if none did."""

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row of plain numbers for each environment and agent, read from the study's folder.

        `rl_lab.studies.table.table_of` says what is in it.
        """
        return table_of(load_study(self.page.parent))

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} runs failed" if self.failures else ""
        parts = [
            f"{row['agent']} on {row['env_id']}"
            + (" without a result" if row["return_iqm"] is None else f" {row['return_iqm']:.6g}")
            for row in self.table[:MOST_NAMED]
        ]
        more = len(self.table) - len(parts)
        parts += [f"and {more} more"] * (more > 0)
        return f"Comparison({', '.join(parts)}{failed}, {str(self.page)!r})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the table, the learning curves, why runs failed, and a link to the page."""
        study = load_study(self.page.parent)
        curves = [_curves(study, env_id, f"env{i}") for i, env_id in enumerate(study.env_ids)]
        causes = [f"<p>{escape(f'failed: {name}: {cause}')}</p>" for name, cause in self.failures.items()]
        link = f'<p><a href="{escape(quote(self.page.as_posix()))}">{escape(str(self.page))}</a></p>'
        drawn = [f'<div style="max-width: 34em; background: #fff">{curve}</div>' for curve in curves if curve]
        return "\n".join([html_of(table_of(study)), *drawn, *causes, link])


def compare(
    env_ids: str | Sequence[str],
    agents: str | Sequence[str],
    *,
    seeds: int = 3,
    out: str | Path = "runs/comparison",
    workers: int = 1,
    preset: str | None = None,
    agent_fields: Mapping[str, Mapping[str, Any]] | None = None,
    progress: bool | None = None,
    signals: bool = False,
    **fields: Any,
) -> Comparison:
    """Train each agent on every environment with the same seeds and the same evaluation, and write one page.

    A second call with the same folder runs only what is missing; it may add seeds, agents or environments.

    Args:
        seeds: how many seeds; they are 0 .. seeds - 1.
        out: the study's directory; the page is its index.html.
        workers: how many runs go on at the same time, each in its own process.
        preset: the preset to use for every agent that has one of this name.
        agent_fields: fields for single agents, by name; they take precedence over `fields`.
        progress: print a line for each run that ends, and show the state of each run meanwhile; None: only in a
            terminal or notebook. Without it, warnings become Python's.
        signals: on SIGINT or SIGTERM, let the current runs save and stop; a second signal ends them at once.
        fields: those of RunConfig and of the agents' own Configs, for all agents; they take precedence over presets.

    Raises:
        UsageError: a wrong name or value, an agent that can't learn an environment, or an `out` that holds another
            study.
        FormatTooNew: a newer version wrote the study that `out` holds.
        Stopped: some runs were stopped before their end.
    """
    seeds, workers = count("seeds", seeds), count("workers", workers)
    plain = {name: plain_value(value) for name, value in fields.items()}
    single = {
        agent: {name: plain_value(value) for name, value in given.items()}
        for agent, given in (agent_fields or {}).items()
    }
    study = Study(_names(env_ids), _names(agents), seeds, plain, single, preset)
    progress = is_watched() if progress is None else progress
    with make_board() if progress else NoBoard() as board:
        return compare_study(study, out, workers=workers, tell=board.tell, signals=signals, board=board)


def compare_study(
    study: Study,
    out: str | Path,
    *,
    workers: int = 1,
    tell: Callable[[str], None] = _print,
    signals: bool = False,
    board: Board | None = None,
) -> Comparison:
    """Run everything of a study that isn't done yet, write its page, and send it to W&B if its runs go there.

    Args and errors are those of `run_study`.
    """
    require_folder(out, "out")
    failures = run_study(study, Path(out), workers=workers, tell=tell, signals=signals, board=board)
    page = write_report(out)
    if (cause := publish(Path(out))) is not None:
        tell(f"W&B: the page of {out} was not sent: {cause}")
    return Comparison(page, failures)


def _curves(study: StudyResults, env_id: str, prefix: str) -> str | None:
    """Return the learning curves on an environment as an SVG element, with a legend; None without any."""
    panel = curve_panel(study, env_id, RETURN, STEPS)
    return (
        None if panel is None else inline_svg([panel], f"evaluation return on {env_id}", study.agents, prefix)
    )


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)

"""The films and the pictures of a page, inside it as far as they are small."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from rl_lab.diagnosis.files import NAME as DIAGNOSIS
from rl_lab.evaluation.pictures import png_of
from rl_lab.evaluation.run_maps import Limits, RunMaps, read_maps, shared_limits
from rl_lab.studies.results import RETURN, RunResults, StudyResults, read_object

EMBEDDED_BYTES = 8 * 2**20  # larger files are linked, so that the page still opens on a phone
PICTURES = "pictures"  # the folder in a run directory
LOG = "log.txt"  # of what a run's process prints, in its folder
DIAGNOSED = {  # pictures of a diagnosis
    "diagnosis_regret": "what each part of the regret costs",
    "diagnosis_visits": "states that were visited",
    "diagnosis_loss": "values that the loss leads to",
    "diagnosis_calibration": "values, beside the returns that followed",
}
CSS_DOTS = 96  # pixels of a style sheet in an inch
MAPS = {
    "values": "exact value of each state, and the action taken in it; red frame: an action that loses",
    "regrets": "regret of each state: how much less than the optimum is expected from there",
    "value_errors": "largest |Q - Q*| of each state; red frame: an action that loses",
    "residuals": "bound on the error of V by sweep",
}
Row = dict[str, Any]


class Look(NamedTuple):
    """What decides where the grid of a map lies, and what its colours mean."""

    limits: Limits
    """Of the colours."""
    legend_rows: int


def videos(study: StudyResults, env_id: str) -> list[Row]:
    """Return the last film of each agent, of the first seed of which all that have any have one.

    Without such a seed it is each agent's best run.
    """
    films = {agent: _films(study.runs[env_id, agent]) for agent in study.agents}
    known = {agent: of for agent, of in films.items() if of}
    common = [seed for seed in study.seeds if all(seed in of for of in known.values())]
    rows = []
    for agent, of in known.items():
        run, film = of[common[0]] if common else next(iter(of.values()))
        row = {
            "agent": agent,
            "seed": run.seed,
            "score": run.scalar(RETURN),
            "source": source_of(study, film),
        }
        rows.append(row | {"same_seed": bool(common), "done": run.done})
    return rows


def unfilmed(study: StudyResults, env_id: str) -> list[str]:
    """Return the agents of which no finished run has a film, though they were to end with one and there is a log.

    Without any log the runs were brought here without what they printed and filmed.
    """
    asked = {
        agent: [run for run in study.runs[env_id, agent] if run.done and run.config.get("video_episodes")]
        for agent in study.agents
    }
    logs = {agent: [run for run in runs if (run.directory / LOG).is_file()] for agent, runs in asked.items()}
    return [agent for agent, runs in asked.items() if logs[agent] and not _films(runs)]


def _films(runs: Iterable[RunResults]) -> dict[int, tuple[RunResults, Path]]:
    """Return the last film of each run that has one, by seed, the best run first."""
    found = {}
    for run in best_first(runs):
        films = sorted((f for f in run.directory.glob("videos/*.mp4") if f.stat().st_size), key=_natural)
        if films:
            found[run.seed] = (run, films[-1])
    return found


def diagnosis_pictures(study: StudyResults, env_id: str) -> list[Row]:
    """Return the pictures of diagnoses by what they show, of each agent's run whose diagnosis is told."""
    runs = [
        next((run for run in study.runs[env_id, agent] if read_object(run.directory / DIAGNOSIS)), None)
        for agent in study.agents
    ]
    found: list[Row] = []
    for kind, name in DIAGNOSED.items():
        pictures = [
            {"agent": run.agent, "seed": run.seed, "source": source_of(study, path), "width": width}
            for run in runs
            if run is not None
            if (width := width_of(path := run.directory / PICTURES / f"{kind}.png")) is not None
        ]
        found += [{"kind": kind, "name": name, "pictures": pictures, "shared": False}] if pictures else []
    return found


def maps(study: StudyResults, env_id: str) -> list[Row]:
    """Return the pictures by what they show, each with one of every agent that has it, of its best run.

    Colours mean the same in all pictures of a kind, as far as it is known what they were drawn from; `shared` tells.
    """
    shown = [found for agent in study.agents if (found := _shown(study.runs[env_id, agent])) is not None]
    drawn_from = [read_maps(run.directory / PICTURES) for run, _ in shown]
    own = [{} if known is None else _looks(known) for known in drawn_from]
    limits = shared_limits(known for known in drawn_from if known is not None)
    looks = {kind: Look(limits[kind], max(o[kind].legend_rows for o in own if kind in o)) for kind in limits}
    of_agents = [
        picture
        for (run, widths), known, has in zip(shown, drawn_from, own, strict=True)
        for picture in _pictures(study, run, widths, known, has, looks)
    ]
    kinds = [*MAPS, *sorted({row["kind"] for row in of_agents} - set(MAPS))]
    rows = [
        {"kind": k, "name": MAPS.get(k, k), "pictures": [p for p in of_agents if p["kind"] == k]}
        for k in kinds
    ]
    return [
        row | {"shared": len(row["pictures"]) > 1 and all(p["shared"] for p in row["pictures"])}
        for row in rows
        if row["pictures"]
    ]


def _shown(runs: Iterable[RunResults]) -> tuple[RunResults, dict[Path, int]] | None:
    """Return the best run that has pictures, with their widths; None if none has any."""
    for run in best_first(runs):
        pictures = sorted((run.directory / PICTURES).glob("*.png"))
        widths = {p: width_of(p) for p in pictures if p.stem not in DIAGNOSED}
        if shown := {p: width for p, width in widths.items() if width is not None}:
            return run, shown
    return None


def _looks(known: RunMaps) -> dict[str, Look]:
    """Return the look that a run's maps have on disk, by kind."""
    return {kind: Look(limits, known.legend_rows(kind)) for kind, limits in known.limits().items()}


def _pictures(
    study: StudyResults,
    run: RunResults,
    widths: Mapping[Path, int],
    known: RunMaps | None,
    own: Mapping[str, Look],
    looks: Mapping[str, Look],
) -> Iterator[Row]:
    for picture, width in widths.items():
        kind = picture.stem
        source = source_of(study, picture)
        if known is not None and kind in own and own[kind] != looks[kind]:
            source = _data_uri("image/png", png_of(known.draw(kind, *looks[kind])))
        yield {
            "agent": run.agent,
            "seed": run.seed,
            "kind": kind,
            "source": source,
            "width": width,
            "shared": kind in own,
        }


def width_of(picture: Path) -> int | None:
    """Return the width in CSS pixels at which a PNG has the size that it was drawn for; None if it can't be read."""
    try:
        with Image.open(picture, formats=["PNG"]) as opened:
            dots_per_inch = opened.info.get("dpi", (CSS_DOTS, CSS_DOTS))[0]
            return round(opened.width * CSS_DOTS / (dots_per_inch or CSS_DOTS))
    except (OSError, SyntaxError):  # left by a version that didn't write pictures whole
        return None


def best_first(runs: Iterable[RunResults]) -> list[RunResults]:
    """Sort runs by their evaluation return, the largest first and those without one last."""

    def score(run: RunResults) -> float:
        value = run.scalar(RETURN)
        return -np.inf if value is None else value

    return sorted(runs, key=score, reverse=True)


def _natural(path: Path) -> list[Any]:
    """Return a sorting key by which 900 comes before 10000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def source_of(study: StudyResults, file: Path) -> str:
    """Return a picture or film as a data URI, or as a relative link if it is large."""
    if file.stat().st_size > EMBEDDED_BYTES:
        return quote(file.relative_to(study.directory).as_posix())
    kind = "image/png" if file.suffix == ".png" else "video/mp4"
    return _data_uri(kind, file.read_bytes())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")

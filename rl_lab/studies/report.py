"""Writes the comparison page: one self-contained file with curves, tables, statistics and videos.

Numbers are computed over finished runs only, and missing runs are listed next to them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from rl_lab.evaluation.comparison.improvement import improvement_interval
from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.grid_maps import MOST_NUMBERED
from rl_lab.evaluation.statistics import Estimate, iqm
from rl_lab.runs.description import IDLE
from rl_lab.storage.files import write_atomically
from rl_lab.studies.curves import DARK, LIGHT, colour_of, dash_of, draw_curves
from rl_lab.studies.foreign.beside import joined_beside, with_joined
from rl_lab.studies.foreign.joined import Joined
from rl_lab.studies.foreign.notes import notes_on
from rl_lab.studies.results import EXACT, OPTIMAL, REGRET, RETURN, RunResults, StudyResults, load_study
from rl_lab.studies.table import Scored

EMBEDDED_BYTES = 8 * 2**20  # larger files are linked, so that the page still opens on a phone
CSS_DOTS = 96  # pixels of a style sheet in an inch
LONGEST_TEXT = 44  # characters of a value in the table of hyperparameters; longer ones are shortened
HASH = re.compile(r"[0-9a-f]{32,}")
HASH_SHOWN = 12  # characters of a hash
SOLVED = 1e-6  # a policy whose regret is below this is optimal up to rounding
MAPS = {
    "values": "exact value of each state, and the action taken in it; red: an action that loses",
    "value_errors": "largest |Q - Q*| of each state; red: an action that loses",
    "residuals": "bound on the error of V by sweep",
}
Row = dict[str, Any]


def write_report(study_dir: str | Path) -> Path:
    """Write `index.html` to a study directory and return its path.

    Raises:
        UsageError: the directory holds no study.
        NotWritten: the file system refused; a page that was there is as it was.
    """
    study = load_study(Path(study_dir))
    shown = with_joined(study)
    page = _template().render(
        study=study,
        light=LIGHT,
        dark=DARK,
        colour_index={agent: LIGHT.index(colour_of(shown, agent)) for agent in shown.agents},
        dash_of={agent: dash_of(shown, agent) for agent in shown.agents},
        sections=[_section(study, env_id, f"env{i}") for i, env_id in enumerate(study.env_ids)],
        versions=_versions(study),
        most_numbered=MOST_NUMBERED,
    )
    target = study.directory / "index.html"
    write_atomically(target, page.encode())
    return target


def number(value: float | None) -> str:
    """Format a number for people: counts and thousands without decimals, a dash for None, nan and infinities."""
    if value is None or not np.isfinite(value):
        return "–"
    if value == 0 or isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 1e-3:
        return f"{value:.0e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def optimal_policy_return(runs: Iterable[RunResults]) -> float | None:
    """Return the evaluation return of an optimal policy, if one of the runs found one.

    `optimal_return` itself is on another scale: it is discounted and without the time limit, while evaluation
    returns are undiscounted and with it. So the exact evaluation of a policy without regret is used.
    """
    regrets = [(abs(regret), run) for run in runs if (regret := run.scalar(REGRET)) is not None]
    smallest, best = min(regrets, key=lambda pair: pair[0], default=(np.inf, None))
    return best.scalar(EXACT) if best is not None and smallest < SOLVED else None


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number
    return environment.get_template("report.html.jinja")


def _section(study: StudyResults, env_id: str, prefix: str) -> Row:
    """Return everything that the page shows about one environment."""
    runs = study.of_env(env_id)
    reference = optimal_policy_return(runs)
    joined = joined_beside(study, env_id)
    own = [_table_row(agent, study.runs[env_id, agent]) for agent in study.agents]
    return {
        "id": prefix,
        "env_id": env_id,
        "returns": _svg(draw_curves(study, env_id, RETURN, f"{prefix}-return", reference)),
        "regrets": _svg(draw_curves(study, env_id, REGRET, f"{prefix}-regret", None)),
        "reference": reference,
        "optimum": next((run.scalar(OPTIMAL) for run in runs if run.scalar(OPTIMAL) is not None), None),
        "eval_gammas": sorted({run.scalar("eval_gamma") for run in runs} - {None}, key=str),
        "rows": [*own, *(_table_row(one.agent, one.runs) for one in joined)],
        "joined": [
            {"agent": one.agent, "source": one.source, "notes": notes_on(one, study, env_id)}
            for one in joined
        ],
        "missing": _missing(runs),
        "improvements": _improvements(study, env_id, joined),
        "maps": [m for agent in study.agents for m in _maps(study, agent, study.runs[env_id, agent])],
        "videos": [_video(study, agent, study.runs[env_id, agent]) for agent in study.agents],
        "fields": _fields(study, env_id),
    }


def _missing(runs: Iterable[RunResults]) -> list[Row]:
    """Return which seeds of which agent are missing and why; seeds with the same cause are grouped."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        if run.scalar(RETURN) is None:
            steps = f" (last evaluated at {run.evaluated_steps:,} steps)" if run.evaluated_steps else ""
            seeds.setdefault((run.agent, run.cause + steps), []).append(run.seed)
    return [{"agent": agent, "cause": cause, "seeds": s} for (agent, cause), s in seeds.items()]


def _svg(figure: str | None) -> Markup | None:
    return None if figure is None else Markup(figure)  # drawn by us, with its texts escaped already


def _scalars(runs: Iterable[Scored], key: str) -> list[float]:
    """Return the finite numbers that the summaries of runs hold under `key`."""
    return [value for run in runs if (value := run.scalar(key)) is not None]


def _table_row(agent: str, runs: Sequence[Scored]) -> Row:
    """Return an agent's row of the table, computed over its finished runs."""
    scores, regrets = _scalars(runs, RETURN), _scalars(runs, REGRET)
    return {
        "agent": agent,
        "done": len(scores),
        "asked": len(runs),
        "iqm": _estimate(scores),
        "mean": _over(np.mean, scores),
        "low": min(scores, default=None),
        "high": max(scores, default=None),
        "regret": _estimate(regrets),
        "exact": _over(iqm, _scalars(runs, EXACT)),
        "env_steps": _over(np.mean, _scalars(runs, "env_steps")),
        "gradient_steps": _over(np.mean, _scalars(runs, "gradient_steps")),
        "train_seconds": _over(np.mean, _scalars(runs, "train_seconds")),
        "speed": _over(np.mean, _scalars(runs, "env_steps_per_second")),
        "wall_seconds": _over(np.mean, _scalars(runs, "wall_seconds")),
        "memory_mb": max(_scalars(runs, "peak_rss_mb"), default=None),
    }


def _over(average: Callable[[Sequence[float]], Any], values: Sequence[float]) -> float | None:
    """Return the average of values, or None without any. If all are equal, it is that value, still an int if it is."""
    if len(set(values)) == 1:
        return values[0]
    return float(average(values)) if values else None


def _estimate(scores: Sequence[float]) -> Estimate | None:
    return aggregate_interval(scores) if scores else None


def _improvements(study: StudyResults, env_id: str, joined: Iterable[Joined]) -> list[Row]:
    """Return the probability of improvement for each pair of agents with finished runs, the likely winner first.

    Joined runs take part where their scores are of the same kind; runs aren't paired by seeds here.
    """
    scores = {agent: _scalars(study.runs[env_id, agent], RETURN) for agent in study.agents}
    scores |= {one.agent: one.figures(RETURN) for one in joined if one.untested(env_id) is None}
    rows = []
    for pair in combinations([agent for agent in scores if scores[agent]], 2):
        x, y = sorted(pair, key=lambda agent: -iqm(scores[agent]))
        rows.append({"x": x, "y": y, "estimate": improvement_interval(scores[x], scores[y])})
    return rows


def _video(study: StudyResults, agent: str, runs: Iterable[RunResults]) -> Row | None:
    """Return the last video of the agent's best run that has one."""
    for run in _best_first(runs):
        found = [file for file in run.directory.glob("videos/*.mp4") if file.stat().st_size]
        videos = sorted(found, key=_natural)
        if videos:
            score = run.scalar(RETURN)
            return {"agent": agent, "seed": run.seed, "score": score, "source": _source(study, videos[-1])}
    return None


def _maps(study: StudyResults, agent: str, runs: Iterable[RunResults]) -> list[Row]:
    """Return the pictures (values, errors, convergence) of the agent's best run that has some."""
    for run in _best_first(runs):
        pictures = {p: width_of(p) for p in sorted(run.directory.glob("pictures/*.png"))}
        if shown := {p: width for p, width in pictures.items() if width is not None}:
            return [
                {
                    "agent": agent,
                    "seed": run.seed,
                    "name": MAPS.get(picture.stem, picture.stem),
                    "source": _source(study, picture),
                    "width": width,
                }
                for picture, width in shown.items()
            ]
    return []


def width_of(picture: Path) -> int | None:
    """Return the width in CSS pixels at which a PNG has the size that it was drawn for; None if it can't be read."""
    try:
        with Image.open(picture, formats=["PNG"]) as opened:
            dots_per_inch = opened.info.get("dpi", (CSS_DOTS, CSS_DOTS))[0]
            return round(opened.width * CSS_DOTS / (dots_per_inch or CSS_DOTS))
    except (OSError, SyntaxError):  # left by a version that didn't write pictures whole
        return None


def _best_first(runs: Iterable[RunResults]) -> list[RunResults]:
    """Sort runs by their evaluation return, the largest first and those without one last."""
    return sorted(runs, key=lambda run: _or(run.scalar(RETURN), -np.inf), reverse=True)


def _natural(path: Path) -> list[Any]:
    """Return a sorting key by which 900 comes before 10000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _source(study: StudyResults, file: Path) -> str:
    """Return a picture or video as a data URI, or as a relative link if it is large."""
    if file.stat().st_size > EMBEDDED_BYTES:
        return quote(file.relative_to(study.directory).as_posix())
    kind = "image/png" if file.suffix == ".png" else "video/mp4"
    return f"data:{kind};base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def _fields(study: StudyResults, env_id: str) -> list[Row]:
    """Return the agents' hyperparameters side by side, beginning with those that several agents have."""
    configs = [_flat_config(study.runs[env_id, agent]) for agent in study.agents]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = []
    for name in names:
        values = [config.get(name) for config in configs]
        known = [value for value in values if value is not None]
        texts = [None if value is None else {"whole": value, "shown": shortened(value)} for value in values]
        rows.append({"name": name, "texts": texts, "differs": len(set(known)) > 1, "shared": len(known)})
    return sorted(rows, key=lambda row: row["shared"] < 2)


def shortened(text: str) -> str:
    """Return a value as its column shows it: the beginning of a hash or of a long text, and an ellipsis."""
    if HASH.fullmatch(text):
        return f"{text[:HASH_SHOWN]}…"
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1].rstrip()}…"


def _flat_config(runs: Iterable[RunResults]) -> dict[str, str]:
    """Return an agent's configuration as texts, taken from the first run that wrote one."""
    config: Mapping[str, Any] = next((run.config for run in runs if run.config), {})
    shared = {name: value for name, value in config.items() if name not in _PER_RUN}
    fields = config.get("fields")
    return {
        name: _text(value) for name, value in (shared | (fields if isinstance(fields, dict) else {})).items()
    }


# What isn't shared by an agent's runs, or decides nothing.
_PER_RUN = frozenset({"agent", "env_id", "seed", "fields", "run_dir", "versions", *IDLE}) | {
    "format", "config_sha256", "wandb_source", "extended_from",
}  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _versions(study: StudyResults) -> dict[str, list[str]]:
    """Return each package's versions; more than one means that the runs aren't comparable."""
    found: dict[str, set[str]] = {}
    for run in (run for env_id in study.env_ids for run in study.of_env(env_id)):
        versions = (run.summary or {}).get("versions")
        for name, version in versions.items() if isinstance(versions, dict) else ():
            found.setdefault(name, set()).add(str(version))
    return {name: sorted(found[name]) for name in sorted(found)}

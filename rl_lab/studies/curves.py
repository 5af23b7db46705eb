"""What a study left on disk, read leniently, and its learning curves as inline SVG."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from rl_lab.evaluation.statistics import curve_interval, interpolate_curves, iqm
from rl_lab.types import UsageError

Array = np.ndarray
Points = tuple[Array, Array]  # env_steps [P], values [P]

RETURN, REGRET, EXACT, OPTIMAL = "eval_return_mean", "regret", "exact_eval_return", "optimal_return"

# Okabe and Ito's colours, told apart with any colour vision; deepened on white, lightened on black.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#b5508f", "#2a9fd8", "#b07d00")
DARK = ("#4aa8e8", "#ff8a42", "#2fcb9d", "#e89bc8", "#92d6ff", "#ecb92f")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))  # once the colours are used up

# Figures are drawn in these and the page's style sheet says what they look like.
INK, GRID = "#010203", "#040506"
VARIABLES = {c: f"var(--agent-{i})" for i, c in enumerate(LIGHT)} | {INK: "var(--ink)", GRID: "var(--grid)"}
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "rl_lab",  # the same study gives the same page
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class RunRecord:
    """One run as far as it got."""

    agent: str
    env_id: str
    seed: int
    directory: Path
    config: Mapping[str, Any]
    summary: Mapping[str, Any] | None  # None: it did not finish
    rows: tuple[Mapping[str, Any], ...]  # of metrics.jsonl, those with an evaluation

    @property
    def done(self) -> bool:
        """Whether the run finished."""
        return self.summary is not None

    @property
    def cause(self) -> str:
        """Why the run is missing, in one line."""
        error = self.directory / "error.txt"
        if self.done:
            return "finished without an evaluation"
        if not self.directory.is_dir():
            return "never started"
        if error.is_file():
            lines = error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[0] if lines else "failed without a message"
        return "no summary: still running, or killed"

    @property
    def evaluated_steps(self) -> int:
        """The env_steps at which it was evaluated last; 0 if it never was."""
        return int(self.curve(RETURN)[0].max(initial=0))

    def result(self, key: str) -> float | None:
        """Return a finite number of the summary, or None."""
        value = (self.summary or {}).get(key)
        return value if _is_finite(value) else None

    def curve(self, key: str) -> Points:
        """Return the evaluations of `key` over env_steps."""
        points = [(row["env_steps"], row[key]) for row in self.rows if _is_finite(row.get(key))]
        steps, values = np.array(points, dtype=float).reshape(-1, 2).T
        return steps, values


@dataclass(frozen=True)
class StudyRecord:
    """A comparison: every run that was asked for, whether or not it finished."""

    directory: Path
    env_ids: tuple[str, ...]
    agents: tuple[str, ...]
    seeds: tuple[int, ...]
    total_steps: int
    runs: Mapping[tuple[str, str], tuple[RunRecord, ...]]  # by (env_id, agent), one per seed

    def colour(self, agent: str) -> str:
        """Return the agent's colour, the same all over the page."""
        return LIGHT[self.agents.index(agent) % len(LIGHT)]

    def dash(self, agent: str) -> Any:
        """Return the agent's line style; it differs where colours repeat."""
        return DASHES[self.agents.index(agent) // len(LIGHT) % len(DASHES)]

    def of_env(self, env_id: str) -> list[RunRecord]:
        """Return all runs on one environment."""
        return [run for agent in self.agents for run in self.runs[env_id, agent]]


def run_directory(study_dir: Path, env_id: str, agent: str, seed: int) -> Path:
    """Return where a study keeps a run."""
    return Path(study_dir, "runs", folder_name(env_id), folder_name(agent), f"seed_{seed}")


def folder_name(name: str) -> str:
    """Return the name of the folder of an environment or an agent."""
    return name.replace("/", "_").replace(":", "_")


def load_study(study_dir: Path) -> StudyRecord:
    """Read a study directory; runs that are missing or cut short are read as far as they go."""
    file = Path(study_dir) / "study.json"
    if not file.is_file():
        raise UsageError(f"{study_dir} is not a study directory: it has no study.json")
    info = json.loads(file.read_text(encoding="utf-8"))
    env_ids, agents = (tuple(dict.fromkeys(info[key])) for key in ("env_ids", "agents"))
    asked = info["seeds"]  # a count, or their list
    seeds = tuple(range(asked)) if isinstance(asked, int) else tuple(asked)
    runs = {
        (env_id, agent): tuple(_load_run(Path(study_dir), env_id, agent, seed) for seed in seeds)
        for env_id in env_ids
        for agent in agents
    }
    return StudyRecord(Path(study_dir), env_ids, agents, seeds, info["total_steps"], runs)


def draw_curves(
    study: StudyRecord, env_id: str, key: str, prefix: str, reference: float | None
) -> str | None:
    """Return the curves of `key` for all agents as an SVG element; None where nobody was evaluated.

    Ids start with `prefix`: "curve-AGENT" is the IQM over finished runs, "band-AGENT" its interval,
    "seed-AGENT-SEED" a single run and "reference" the horizontal line at `reference`.
    """
    runs = study.of_env(env_id)
    values = np.concatenate([run.curve(key)[1] for run in runs])
    if values.size == 0:
        return None
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.add_subplot()
        end = max(study.total_steps, *(run.curve(key)[0].max(initial=0) for run in runs))
        for agent in study.agents:
            _draw_agent(axes, study, study.runs[env_id, agent], key, end)
        if reference is not None:
            axes.axhline(reference, color=INK, linewidth=1, linestyle=(0, (4, 3)), gid="reference")
        _dress(axes, key, end, values)
        return _inline(figure, prefix, f"{_TITLES[key]} on {env_id}")


_TITLES = {RETURN: "evaluation return", REGRET: "regret"}


def _draw_agent(axes: Axes, study: StudyRecord, runs: Iterable[RunRecord], key: str, end: float) -> None:
    finished = []
    for run in runs:
        steps, values = _stretched(run.curve(key), end)
        if steps.size:
            look: Any = {"linestyle": "-", "alpha": 0.4} if run.done else {"linestyle": ":", "alpha": 0.9}
            name = f"seed-{run.agent}-{run.seed}"
            axes.plot(steps, values, color=study.colour(run.agent), linewidth=0.9, gid=name, **look)
        if steps.size and run.done:
            finished.append((steps, values))
    grid, matrix = interpolate_curves(finished)  # [G], [runs, G]
    if grid.size:
        _draw_average(axes, study, run.agent, grid, matrix)


def _draw_average(axes: Axes, study: StudyRecord, agent: str, grid: Array, matrix: Array) -> None:
    colour = study.colour(agent)
    low, high = curve_interval(matrix)
    axes.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0, gid=f"band-{agent}")
    marker = "o" if grid.size == 1 else ""
    look: Any = {"color": colour, "linestyle": study.dash(agent), "linewidth": 2, "marker": marker}
    axes.plot(grid, iqm(matrix, 0), gid=f"curve-{agent}", **look)


def _stretched(curve: Points, end: float) -> Points:
    """Draw what was known before the first step, and so forever, as a horizontal line."""
    steps, values = curve
    if steps.size == 0 or steps.any():
        return curve
    return np.array([0.0, end]), np.repeat(values[-1], 2)


def _dress(axes: Axes, key: str, end: float, values: Array) -> None:
    axes.set_xlabel("environment steps")
    axes.set_ylabel(_TITLES[key])
    axes.set_xlim(0, end * 1.02 or 1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(length=3)
    if key == REGRET:
        _scale_regret(axes, values)


def _scale_regret(axes: Axes, regrets: Array) -> None:
    """Use a logarithmic axis that still shows zero where regrets span more than a factor of 20."""
    largest, positive = regrets.max(), regrets[regrets > 0]
    if largest <= 0 or positive.min() > largest / 20:
        axes.set_ylim(bottom=min(0, regrets.min()) - 0.03 * max(largest, 0))
        return
    smallest = max(positive.min(), largest / 1e4)  # what is closer to zero is drawn linearly
    threshold = 10.0 ** np.floor(np.log10(smallest))
    axes.set_yscale("symlog", linthresh=threshold, linscale=0.7)
    axes.yaxis.set_major_formatter(lambda regret, _: f"{regret:g}")
    axes.set_ylim(bottom=min(regrets.min(), -threshold / 4))


def _inline(figure: Figure, prefix: str, title: str) -> str:
    """Return the figure as an SVG element for HTML: no namespaces, no style sheet, unique ids, variables."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        _make_local(element, prefix)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _make_local(element: ElementTree.Element, prefix: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    name = attributes.get("id", "")
    if "id" in attributes:
        attributes["id"] = f"{prefix}-{name}"
    for reference in ("href", "clip-path"):
        if reference in attributes:
            attributes[reference] = attributes[reference].replace("#", f"#{prefix}-", 1)
    for colour, variable in VARIABLES.items():
        if "style" in attributes:
            attributes["style"] = attributes["style"].replace(colour, variable)
    if name.startswith("curve-"):
        attributes["data-curve"] = name.removeprefix("curve-")
    element.attrib = attributes


def _load_run(study_dir: Path, env_id: str, agent: str, seed: int) -> RunRecord:
    directory = run_directory(study_dir, env_id, agent, seed)
    rows = _read_rows(directory / "metrics.jsonl")
    config = _read_object(directory / "config.json") or {}
    return RunRecord(agent, env_id, seed, directory, config, _read_object(directory / "summary.json"), rows)


def _read_object(file: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file; None where there is none, or a killed run left half of one."""
    value = _parse(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None
    return value if isinstance(value, dict) else None


def _read_rows(file: Path) -> tuple[dict[str, Any], ...]:
    if not file.is_file():
        return ()
    with file.open(encoding="utf-8", errors="replace") as lines:
        rows = [_parse(line) for line in lines if RETURN in line or REGRET in line]
    return tuple(row for row in rows if isinstance(row, dict) and _is_finite(row.get("env_steps")))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))

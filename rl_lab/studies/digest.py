"""What is kept of a study in little space: every number, the tables, and the curves of each environment.

A study's own folder holds weights, episodes and films; what a repository or a report needs of it takes a few files.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from rl_lab.storage.files import write_atomically
from rl_lab.studies.page import static, tables
from rl_lab.studies.page.clocks import clocks_note
from rl_lab.studies.page.contents import Contents, Environment, contents_of
from rl_lab.studies.page.curves import SECONDS, STEPS, curve_panel
from rl_lab.studies.page.decisions import outcome_of
from rl_lab.studies.page.formats import counted, finite, interval, listed, p_text, slug
from rl_lab.studies.page.panels import Panel
from rl_lab.studies.page.statistics import Pair
from rl_lab.studies.results import REGRET, RETURN, WORST, RunResults, load_study
from rl_lab.types import UsageError

NUMBERS, TABLES, SUMMARY = "numbers.json", "README.md", "summary.md"
DIGITS = 5  # significant ones of the numbers of runs and curves
HASH = 12  # characters of a hash
DPI, COLOURS = 110, 256  # of a figure; with fewer, those of agents are mixed
FIGURES = (
    RETURN, WORST, REGRET, "exact_eval_return", "env_steps", "env_frames", "gradient_steps", "train_seconds",
    "wall_seconds", "cpu_seconds", "compile_seconds", "peak_rss_mb", "eval_capped_episodes", "weights_sha256",
)  # fmt: skip


def write_digest(study_dir: str | Path, out: str | Path, note: str = "") -> dict[str, int]:
    """Write what is kept of a study into a folder; return the sizes of the files in bytes, by name.

    Args:
        study_dir: of a study, finished or not: what is missing is named.
        note: what else has to be known of its runs, a sentence.

    Raises:
        UsageError: the directory holds no study.
        NotWritten: the file system refused.
    """
    files = digest_of(contents_of(load_study(Path(study_dir))), note)
    Path(out).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(Path(out) / name, data)
    return {name: len(data) for name, data in files.items()}


def digest_of(contents: Contents, note: str = "") -> dict[str, bytes]:
    """Return the files that are kept of a study, by name."""
    notes = [text for text in (clocks_note(contents.study), note) if text]
    figures = {
        env.env_id: drawn for env in contents.environments if (drawn := _figure(contents, env)) is not None
    }
    written = {f"{slug(env_id)}.png": drawn for env_id, drawn in figures.items()}
    page = "\n".join(_page(contents, notes, set(figures)))
    return {
        NUMBERS: _json(_numbers(contents, notes)),
        TABLES: f"{page}\n".encode(),
        SUMMARY: "\n".join([_asked(contents), "", *summary_of(contents), *_apart(notes), ""]).encode(),
        **written,
    }


def insert(page: str, name: str, text: str) -> str:
    """Return a page with a text between the comments `<!-- study: NAME -->` and `<!-- end of study -->`.

    Raises:
        UsageError: the page lacks the comments.
    """
    marks = re.compile(rf"(<!-- study: {re.escape(name)} -->\n).*?(<!-- end of study -->)", re.DOTALL)
    replaced, count = marks.subn(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)
    if count != 1:
        raise UsageError(
            f"a page needs <!-- study: {name} --> and <!-- end of study --> once, found {count} times"
        )
    return replaced


def summary_of(contents: Contents) -> Iterator[str]:
    """Yield the lines of a table with a row for each environment and pair: an agent and SB3's of the same name.

    Without any such pair, all pairs have their rows.
    """
    yield "| environment | agent | return | compared with | return | difference | p, corrected | outcome | CPU time |"
    yield "|---|---|---:|---|---:|---:|---:|---|---:|"
    for env in contents.environments:
        for x, y in _chosen(contents.study.agents):
            yield _line(contents, env, x, y)
    yield "\nReturns: interquartile means with 95 % intervals. Differences and p-values are of means, of the seeds that"
    yield "both have. CPU time: that of the first agent as a share of the second one's."


def _chosen(agents: Iterable[str]) -> list[tuple[str, str]]:
    names = list(agents)
    peers = [(name, f"sb3-{name}") for name in names if f"sb3-{name}" in names]
    return peers or [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]


def _line(contents: Contents, env: Environment, x: str, y: str) -> str:
    rows = {row.agent: row for row in env.rows}
    cells = [env.env_id]
    for agent in (x, y):
        row = rows[agent]
        seeds = "" if row.done == row.asked else f" ({row.done} of {row.asked} seeds)"
        cells += [agent, f"{row.cells['iqm'].text}{seeds}"]
    pair = next((p for p in env.compared.pairs if {p.x, p.y} == {x, y}), None)
    cells += ["–"] * 3 if pair is None else _told(pair, x, _decided(contents, env, x, y))
    used = [rows[agent].cells["cpu_seconds"].value for agent in (x, y)]
    cells.append(f"{used[0] / used[1]:.2f}" if used[0] and used[1] else "–")
    return f"| {' | '.join(cells)} |"


def _decided(contents: Contents, env: Environment, x: str, y: str) -> str | None:
    """Return what was decided of two agents where seeds were added for it; None with a fixed number of seeds."""
    return None if contents.decided is None else outcome_of(contents.decided, env.env_id, x, y)


def _told(pair: Pair, x: str, decided: str | None) -> list[str]:
    """Return the difference from the side of x, its p-value where that holds, and who is better."""
    value, low, high = pair.difference
    if pair.x != x:
        value, low, high = -value, -high, -low
    outcome = decided or (f"{pair.x} is better" if pair.different else "not decided")
    p_value = p_text(pair.adjusted_p_value).removeprefix("p ").removeprefix("= ") if decided is None else "–"
    return [interval(value, low, high), p_value, outcome]


def _asked(contents: Contents) -> str:
    """Return how much was run, and how much of it is missing."""
    done = contents.asked - contents.missing
    ran = (
        f"all {done} runs have"
        if not contents.missing
        else f"{done} of {counted(contents.asked, 'run')} have"
    )
    return f"{contents.seeds_each} each, {contents.budget} per run; {ran} a result."


def _apart(notes: Iterable[str]) -> list[str]:
    """Return notes as paragraphs."""
    return [f"\n{text}" for text in notes]


def _page(contents: Contents, notes: Iterable[str], drawn: set[str]) -> Iterator[str]:
    study = contents.study
    yield f"# {listed(list(study.agents))} on {listed(list(study.env_ids))}\n"
    yield f"{_asked(contents)} Seeds: {', '.join(map(str, study.seeds))}."
    yield from _apart(notes)
    yield from ("", *summary_of(contents))
    if contents.overall is not None:
        yield f"\n{contents.overall.verdict.text}"
    for env in contents.environments:
        yield f"\n{tables.markdown_of(env).rstrip()}"
        if env.env_id in drawn:
            yield f"\n![Evaluation returns on {env.env_id}]({slug(env.env_id)}.png)"
    yield "\n## Run it again\n"
    if contents.command is not None:
        yield f"```sh\n{contents.command}\n```\n"
    for title, found in (("Versions", contents.versions), ("Hardware", contents.hardware)):
        yield f"{title}: {', '.join(f'{name} {listed(values)}' for name, values in found.items()) or 'not known'}.\n"


def _figure(contents: Contents, env: Environment) -> bytes | None:
    """Return the curves of returns as a PNG; None without any.

    Over steps, and over seconds where runs had a processor to themselves: elsewhere seconds say little of an agent.
    """
    axes = (STEPS, SECONDS) if clocks_note(contents.study) is None else (STEPS,)
    found = (curve_panel(contents.shown, env.env_id, RETURN, axis) for axis in axes)
    panels = [_means(panel) for panel in found if panel is not None and panel.lines]
    if not panels:
        return None
    title = f"Evaluation return on {env.env_id}: IQM and 95 % interval"
    figure = static.draw(panels, title, contents.shown.agents)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    small = io.BytesIO()
    few = Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(small, format="PNG", optimize=True)
    return small.getvalue()


def _means(panel: Panel) -> Panel:
    """Return a panel without the curves of single runs."""
    return replace(panel, seeds=(), x_range=(0.0, max(line.x[-1] for line in panel.lines) * 1.02))


def _numbers(contents: Contents, notes: list[str]) -> dict[str, Any]:
    """Return every number, the curves of each run instead of what is drawn of them."""
    whole = tables.numbers_of(contents)
    del whole["figures"]
    whole["hyperparameters"] = _grouped(whole["hyperparameters"])
    whole["notes"] = notes
    whole["runs"] = [_run(run) for runs in contents.study.runs.values() for run in runs]
    return whole


def _grouped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of single environments with those joined that differ in nothing else: `env_ids`, not `env_id`."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(json.dumps({n: v for n, v in row.items() if n != "env_id"}), []).append(
            row["env_id"]
        )
    return [{"env_ids": env_ids} | json.loads(row) for row, env_ids in found.items()]


def _run(run: RunResults) -> dict[str, Any]:
    steps, returns = run.curve(RETURN)
    seconds = run.seconds_at(steps)
    curve = {"env_steps": steps.tolist(), "train_seconds": None if seconds is None else seconds.tolist()}
    curve |= {"return": returns.tolist()}
    if (regrets := run.curve(REGRET)[1]).size == steps.size:
        curve["regret"] = regrets.tolist()
    kept: Mapping[str, Any] = run.summary or {}
    return (
        {"env_id": run.env_id, "agent": run.agent, "seed": run.seed, "finished": run.done}
        | ({} if run.done else {"missing_because": run.cause})
        | {name: _rounded(kept[name]) for name in FIGURES if kept.get(name) is not None}
        | {"curve": {name: None if v is None else [_short(x) for x in v] for name, v in curve.items()}}
    )


def _rounded(value: Any) -> Any:
    """Return a figure of a run as it is kept: of hashes the beginning."""
    return _short(value) if isinstance(value, float) else value[:HASH] if isinstance(value, str) else value


def _short(value: float) -> float | int:
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short


def _json(value: dict[str, Any]) -> bytes:
    """Return JSON with a line for each entry of a list at the top, so that versions can be compared line by line."""
    parts = []
    for name, held in finite(value).items():
        if isinstance(held, list) and held:
            lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in held)
            parts.append(f" {json.dumps(name)}: [\n  {lines}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(held, ensure_ascii=False)}")
    return ("{\n" + ",\n".join(parts) + "\n}\n").encode()

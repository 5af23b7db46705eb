"""The tables beside a page: every number as CSV and JSON, the results as Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.contents import Compared, Contents, Environment
from rl_lab.studies.page.formats import finite, interval, number
from rl_lab.studies.page.panels import Chart
from rl_lab.studies.page.statistics import Pair
from rl_lab.studies.results import RunResults

Row = dict[str, Any]
# Characters that LaTeX doesn't take as they are.
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "…": r"\ldots{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "γ": r"$\gamma$", "τ": r"$\tau$",
}  # fmt: skip

NUMBERS = "numbers.json"  # everything, and the verdicts


def files_of(contents: Contents) -> dict[str, bytes]:
    """Return the tables of a page by file name."""
    files = {f"{name}.csv": csv_of(rows) for name, rows in _tables(contents).items()}
    files[NUMBERS] = json.dumps(finite(numbers_of(contents)), indent=1, ensure_ascii=False).encode()
    files["results.md"] = "\n".join(markdown_of(env) for env in contents.environments).encode()
    files["results.tex"] = "\n".join(_latex(env) for env in contents.environments).encode()
    return files


def numbers_of(contents: Contents) -> dict[str, Any]:
    """Return all that a page says, as plain numbers and texts."""
    figures = {c.slug: c.rows() for c in contents.charts}
    return {"study": _study(contents), **_tables(contents), **_beside(contents), "figures": figures}


def _tables(contents: Contents) -> dict[str, list[Row]]:
    return {
        "results": [row for env in contents.environments for row in _results(env)],
        "runs": [_run(run) for e in contents.study.env_ids for run in contents.study.of_env(e)],
        "pairs": [row for compared in _all(contents) for row in _pairs(compared)],
        "aggregates": [row for compared in _all(contents) for row in _aggregates(compared)],
        "hyperparameters": [row for env in contents.environments for row in _hyperparameters(contents, env)],
    }


def _beside(contents: Contents) -> Row:
    """Return what else the page says: what was decided, why agents are worse, and what is known of joined runs."""
    joined = [
        {"env_id": env.env_id, "agent": one.agent, "notes": one.notes}
        for env in contents.environments
        for one in env.joined
    ]
    return {"decision": contents.decided, "diagnoses": [*map(dict, contents.diagnoses)], "joined": joined}


def figure_csv(chart: Chart) -> bytes:
    """Return every number of a figure as CSV."""
    return csv_of(chart.rows())


def csv_of(rows: Sequence[Row]) -> bytes:
    """Return rows as CSV; numbers that aren't known are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(finite(list(rows)))
    return text.getvalue().encode()


def _all(contents: Contents) -> list[Compared]:
    overall = [] if contents.overall is None else [contents.overall]
    return [*overall, *(env.compared for env in contents.environments)]


def _study(contents: Contents) -> Row:
    study = contents.study
    overall = [] if contents.overall is None else [contents.overall.verdict]
    verdicts = [*overall, *(env.compared.verdict for env in contents.environments)]
    return {
        "env_ids": list(study.env_ids),
        "agents": list(study.agents),
        "seeds": list(study.seeds),
        "total_steps": study.total_steps,
        "verdicts": [
            {"of": v.name, "text": v.text, "decided": v.decided, "notes": list(v.notes)} for v in verdicts
        ],
        "scales": {
            env_id: None if scale is None else {"low": scale.low, "high": scale.high, "source": scale.source}
            for env_id, scale in contents.scales.items()
        },
        "command": contents.command,
        "versions": contents.versions,
        "hardware": contents.hardware,
    }


def _results(env: Environment) -> list[Row]:
    return [
        {"env_id": env.env_id, "agent": row.agent, "finished": row.done, "seeds": row.asked}
        | {name: value for c in env.columns for name, value in _cell(c.key, row.cells[c.key]).items()}
        for row in env.rows
    ]


def _cell(key: str, cell: Any) -> Row:
    if key == "range":
        return {}
    estimate: Estimate | None = cell.estimate
    ends = {} if estimate is None else {f"{key}_low": estimate.low, f"{key}_high": estimate.high}
    return {key: cell.value} | ends


def _run(run: RunResults) -> Row:
    figures = {n: v for n, v in (run.summary or {}).items() if isinstance(v, int | float | str)}
    given = {"env_id": run.env_id, "agent": run.agent, "seed": run.seed, "finished": run.done}
    return (
        given
        | {"missing_because": "" if run.done else run.cause}
        | {n: v for n, v in figures.items() if n not in given}
    )


def _pairs(compared: Compared) -> list[Row]:
    return [
        {
            "scores": compared.group.name, "x": p.x, "y": p.y, "seeds": p.seeds,
            "mean_x": p.means[0], "mean_y": p.means[1],
            "difference": p.difference.value, "difference_low": p.difference.low, "difference_high": p.difference.high,
            "p_value": p.p_value, "adjusted_p_value": p.adjusted_p_value,
            "improvement": p.improvement.value, "improvement_low": p.improvement.low,
            "improvement_high": p.improvement.high, "power": p.power or "",
        }
        for p in compared.pairs
    ]  # fmt: skip


def _aggregates(compared: Compared) -> list[Row]:
    return [
        {"scores": compared.group.name, "aggregate": name, "agent": agent, **found._asdict()}
        for name, of in compared.aggregates.items()
        for agent, found in of.items()
    ]


def _hyperparameters(contents: Contents, env: Environment) -> list[Row]:
    agents = contents.study.agents
    return [
        {"env_id": env.env_id, "field": row["name"], "differs": row["differs"]}
        | {a: None if text is None else text["whole"] for a, text in zip(agents, row["texts"], strict=True)}
        for row in env.hyperparameters
    ]


def _written(env: Environment) -> tuple[list[str], list[list[str]]]:
    """Return the table of results as texts: the header and the rows."""
    header = ["agent", "seeds", *(column.title for column in env.columns)]
    rows = [
        [row.agent, f"{row.done} of {row.asked}", *(row.cells[column.key].text for column in env.columns)]
        for row in env.rows
    ]
    return header, rows


def markdown_of(env: Environment) -> str:
    """Return what is said of an environment in Markdown: the verdict, the results, what is missing, and the pairs."""
    header, rows = _written(env)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    table = "\n".join(f"| {' | '.join(_in_markdown(text) for text in line)} |" for line in lines)
    pairs = [_pair_line(p, tested=not env.compared.sequential) for p in env.compared.pairs]
    told = [env.compared.verdict.text, *env.compared.verdict.notes]
    remarks = [] if env.cut_off is None else [env.cut_off]
    remarks += [f"{m['agent']}, {_seeds(m['seeds'])}: {m['cause']}" for m in env.missing]
    remarks += [f"{one.agent}, not run by this study: {'; '.join(one.notes)}" for one in env.joined]
    listed = [f"- {_in_markdown(remark)}" for remark in remarks]
    return "\n".join(
        [f"## {env.env_id}\n", *(f"{_in_markdown(text)}\n" for text in told), table, "", *listed, *pairs, ""]
    )


def _pair_line(p: Pair, tested: bool) -> str:
    """Return an entry on a pair, with its p-value where that holds."""
    p_value = f"p = {p.adjusted_p_value:.2g}, " if tested else ""
    return (
        f"- {_in_markdown(p.x)} against {_in_markdown(p.y)}: {interval(*p.difference)}, {p_value}"
        f"probability of improvement {number(p.improvement.value)}"
    )


def _seeds(seeds: Sequence[int]) -> str:
    """Return "seed 3", "seeds 3, 4"."""
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _in_markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _latex(env: Environment) -> str:
    """Return the table of results for LaTeX's package booktabs."""
    header, rows = _written(env)
    body = [" & ".join(map(in_latex, row)) + r" \\" for row in rows]
    return "\n".join(
        [
            f"% {' '.join(env.env_id.split())}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(map(in_latex, header)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def in_latex(text: str) -> str:
    """Return a text as LaTeX takes it."""
    return "".join(LATEX.get(letter, letter) for letter in text)

"""Studies as they lie on disk, written without training, and a reader of the pages made of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from rl_lab.studies.results import run_directory

LAKE = "FrozenLake-v1"
HOSTILE = '<script>alert("x")</script>&'
AGENTS = ["dqn", HOSTILE, "value-iteration"]


def write_run(study: Path, agent: str, seed: int, returns: list, env_id: str = LAKE, **summary) -> Path:
    """Write a run with an evaluation every 100 steps; without a summary it did not finish."""
    directory = run_directory(study, env_id, agent, seed)
    directory.mkdir(parents=True)
    fields = {"gamma": 0.99, "learning_rate": 0.1 if agent == "dqn" else 0.5}
    config = {"agent": agent, "seed": seed, "num_envs": 1, "fields": fields}
    (directory / "config.json").write_text(json.dumps(config))
    rows = [{"env_steps": 100 * i, "eval_return_mean": value} for i, value in enumerate(returns)]
    if "regret" in summary:
        rows = [row | {"regret": 0.1 * 0.5**i} for i, row in enumerate(rows)]
    text = "".join(json.dumps(row) + "\n" for row in [{"env_steps": 0, "loss": 1.0}, *rows])
    (directory / "metrics.jsonl").write_text(text)
    if summary:
        summary = {"eval_return_mean": (returns or [None])[-1], "versions": {"numpy": "2.4"}} | summary
        (directory / "summary.json").write_text(json.dumps(summary))
    return directory


def describe(study: Path, agents: list[str], seeds: int | list[int] = 2, env_ids: tuple[str, ...] = (LAKE,)):
    study.mkdir(exist_ok=True)
    info = {"env_ids": list(env_ids), "agents": agents, "seeds": seeds, "total_steps": 300}
    (study / "study.json").write_text(json.dumps(info))
    return study


class Page(HTMLParser):
    """Collects a page's tags, figures, the texts of its table cells by (agent, metric) and of its list items.

    Every part of a figure is a trace of plotly, with its panel's layout in `layouts`.
    """

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: dict[tuple[str, str], str] = {}
        self.items: list[str] = []
        self._agent, self._metric, self._text = "", "", ""
        self.charts: dict[str, dict[str, Any]] = {}
        self.feed(html)

    def traces(self, chart: str, view: str = "") -> list[dict[str, Any]]:
        """Return the traces of a figure, in one of its views; by default in the first."""
        views = self.charts[chart]["views"]
        shown = next(v for v in views if view in ("", v["name"]))
        return [trace for panel in shown["panels"] for trace in panel["data"]]

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "tr":
            self._agent = attributes.get("data-agent", "")
        if tag in ("td", "li", "script"):
            self._metric, self._text = attributes.get("data-metric", ""), ""

    def handle_data(self, data):
        self._text += data

    def handle_endtag(self, tag):
        if tag == "td":
            self.cells[self._agent, self._metric] = " ".join(self._text.split())
        if tag == "script" and not self.charts:
            self.charts = {chart["id"]: chart for chart in json.loads(self._text)}
        if tag == "li":
            self.items.append(" ".join(self._text.split()))


def hostile_study(folder: Path) -> Path:
    """Write three agents with two seeds each; one seed failed, one agent has a hostile name, one solves the model."""
    study = describe(folder, AGENTS)
    done = {"env_steps": 304, "gradient_steps": 50, "train_seconds": 2.0, "env_steps_per_second": 152.0}
    done |= {"peak_rss_mb": 410, "wall_seconds": 3.5, "eval_gamma": 0.99, "optimal_return": 0.542}
    for seed, last in enumerate([0.25, 0.75]):
        metrics = done | {"regret": 0.125, "exact_eval_return": 0.5}
        run = write_run(study, "dqn", seed, [0.0, 0.25, 0.25, last], **metrics)
        (run / "videos").mkdir()
        (run / "videos" / "900.mp4").write_bytes(b"old")
        (run / "videos" / "10000.mp4").write_bytes(b"best" if seed else b"worse")
    write_run(study, HOSTILE, 0, [0.0, 0.5, 0.5, 0.5], **done)
    failed = write_run(study, HOSTILE, 1, [0.0, 0.9])
    (failed / "error.txt").write_text("loss is <nan> at 120\n")
    with (failed / "metrics.jsonl").open("a") as metrics_file:
        metrics_file.write('{"env_steps": 200, "eval_return_mean": 0.')  # cut short by a kill
    for seed in range(2):
        solved = done | {"env_steps": 0, "regret": 0.0, "exact_eval_return": 0.7403}
        write_run(study, "value-iteration", seed, [0.74], **solved)
    return study

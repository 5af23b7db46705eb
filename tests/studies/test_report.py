"""The comparison page: right numbers, nothing hidden, nothing loaded, nothing executed."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from browsers import BROWSER, needs_browser
from rl_lab.studies.report import EMBEDDED_BYTES, number, write_report
from rl_lab.studies.results import load_study, run_directory
from rl_lab.studies.table import table_of
from rl_lab.types import UsageError

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


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Three agents, two seeds each; one seed failed, one agent has a hostile name, one solves the model."""
    study = describe(tmp_path_factory.mktemp("study"), AGENTS)
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


class Page(HTMLParser):
    """Collects a page's tags, the texts of its table cells by (agent, metric) and of its list items."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: dict[tuple[str, str], str] = {}
        self.items: list[str] = []
        self._agent, self._metric, self._text = "", "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "tr":
            self._agent = attributes.get("data-agent", "")
        if tag in ("td", "li"):
            self._metric, self._text = attributes.get("data-metric", ""), ""

    def handle_data(self, data):
        self._text += data

    def handle_endtag(self, tag):
        if tag == "td":
            self.cells[self._agent, self._metric] = " ".join(self._text.split())
        if tag == "li":
            self.items.append(" ".join(self._text.split()))


@pytest.fixture(scope="module")
def html(study) -> str:
    return write_report(study).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_page_lies_in_the_study_and_leaves_nothing_else(study, html):
    assert sorted(p.name for p in study.iterdir()) == ["index.html", "runs", "study.json"]
    assert html.lstrip().startswith("<!doctype html>")


def test_same_study_gives_the_same_page(study, html):
    assert write_report(study).read_text(encoding="utf-8") == html


def test_every_agent_has_a_curve_in_each_figure_it_belongs_to(page):
    curves = [(a["id"].split("-curve-")[0], a["data-curve"]) for _, a in page.tags if "data-curve" in a]
    assert curves == [
        ("env0-return", "dqn"),
        ("env0-return", HOSTILE),
        ("env0-return", "value-iteration"),
        ("env0-regret", "dqn"),
        ("env0-regret", "value-iteration"),
    ]


def test_ids_are_unique_and_every_reference_inside_the_page_resolves(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    values = " ".join(str(v) for _, a in page.tags for k, v in a.items() if k in ("href", "clip-path"))
    references = re.findall(r"#([\w-]+)", values)
    assert len(references) > 10
    assert set(references) <= set(ids)


@pytest.mark.parametrize(
    ("agent", "metric", "text"),
    [
        ("dqn", "seeds", "2 of 2"),
        ("dqn", "iqm", "0.500 [0.250, 0.750]"),
        ("dqn", "mean", "0.500"),
        ("dqn", "range", "0.250 … 0.750"),
        ("dqn", "regret", "0.125 [0.125, 0.125]"),
        ("dqn", "exact", "0.500"),
        ("dqn", "env_steps", "304"),
        ("dqn", "gradient_steps", "50"),
        ("dqn", "train_seconds", "2.000"),
        ("dqn", "speed", "152.0"),
        ("dqn", "wall_seconds", "3.500"),
        ("dqn", "memory", "410"),
        (HOSTILE, "seeds", "1 of 2"),
        (HOSTILE, "iqm", "0.500"),  # one seed: no interval
        (HOSTILE, "mean", "0.500"),  # the failed seed's 0.9 is not in it
        (HOSTILE, "regret", "–"),
        ("value-iteration", "regret", "0 [0, 0]"),
        ("value-iteration", "env_steps", "0"),
    ],
)
def test_table_holds_the_numbers_of_the_finished_runs(page, agent, metric, text):
    assert page.cells[agent, metric] == text


def test_intervals_are_those_of_the_statistics_page(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=5)
    for seed, score in enumerate([1.0, 2.0, 3.0, 5.0, 9.0]):
        write_run(study, "dqn", seed, [score], env_steps=1)
    page = Page(write_report(study).read_text(encoding="utf-8"))
    assert page.cells["dqn", "iqm"] == "3.333 [1.000, 9.000]"  # not widened, they end at 1.67 and 7.67
    (row,) = table_of(load_study(study))
    assert (row["return_low"], row["return_high"]) == (1.0, 9.0)


def test_missing_seed_is_named_with_its_cause_and_counted(page, html):
    assert f"{HOSTILE}, seed 1: loss is <nan> at 120 (last evaluated at 100 steps)" in page.items
    assert "1 of 6 runs is missing" in html
    assert f"{HOSTILE} (1 of 2 seeds)" in page.items  # and in the legend


def test_probability_of_improvement_is_shown_for_each_pair(page, html):
    pairs = [(a["data-x"], a["data-y"]) for _, a in page.tags if "data-x" in a]
    assert pairs == [("dqn", HOSTILE), ("value-iteration", "dqn"), ("value-iteration", HOSTILE)]
    probabilities = re.findall(
        r'data-metric="probability"><span data-value="([\d.]+)"', html.replace("\n", "")
    )
    assert probabilities == ["0.5", "0.5", "1.0"]


def test_optimum_is_drawn_on_the_scale_of_the_returns(page):
    """0.542 is discounted and without the time limit; the returns are neither."""
    assert [a["data-reference"] for _, a in page.tags if "data-reference" in a] == ["0.7403"]
    assert any(a.get("id") == "env0-return-reference" for _, a in page.tags)


def test_without_an_optimal_run_no_optimum_is_drawn_among_the_returns(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    write_run(study, "dqn", 0, [0.0, 0.5], optimal_return=0.542, regret=0.05, exact_eval_return=0.7)
    html = write_report(study).read_text(encoding="utf-8")
    assert "data-reference" not in html
    assert "The optimum, 0.542, is discounted" in html


def test_last_video_of_the_best_seed_is_embedded(page):
    sources = [a["src"] for tag, a in page.tags if tag == "video"]
    assert sources == ["data:video/mp4;base64,YmVzdA=="]


def test_large_video_is_linked_relative_to_the_page(tmp_path):
    study = describe(tmp_path, ["d q/n"], seeds=1)
    (run := write_run(study, "d q/n", 0, [1.0], env_steps=1)).joinpath("videos").mkdir()
    (run / "videos" / "1.mp4").write_bytes(bytes(EMBEDDED_BYTES + 1))
    page = Page(write_report(study).read_text(encoding="utf-8"))
    (source,) = [a["src"] for tag, a in page.tags if tag == "video"]
    assert source == f"runs/{LAKE}/d%20q_n/seed_0/videos/1.mp4"


def test_hyperparameters_that_differ_are_marked(page):
    marked = {a["data-field"]: a.get("class") for _, a in page.tags if "data-field" in a}
    assert marked == {"num_envs": None, "gamma": None, "learning_rate": "differs"}


def test_nothing_is_loaded_from_elsewhere(page, html):
    loaded = [a[k] for tag, a in page.tags for k in ("src", "href", "srcset", "poster", "data") if k in a]
    assert all(re.match(r"data:|#", value) for value in loaded)
    assert not re.search(r"url\(\s*['\"]?(?!#)", html)
    assert "@import" not in html
    assert "//" not in re.sub(r"base64,[\w+/=]+", "", html)


def test_untrusted_text_is_escaped(page, html):
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<nan>" not in html
    assert "&lt;script&gt;" in html


def test_colours_belong_to_agents_not_to_figures(html):
    for figure in re.findall(r'<svg viewBox="0 0 \d{3}.*?</svg>', html, re.DOTALL):
        for curve in re.findall(r'<g id="[\w-]+-curve-value-iteration".*?</g>', figure, re.DOTALL):
            assert "var(--agent-2)" in curve
    assert len(re.findall(r"-curve-value-iteration", html)) == 2


def test_curve_is_the_interquartile_mean_of_the_finished_seeds(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=5)
    for seed, score in enumerate([1.0, 0.0, 1.0, 100.0]):
        write_run(study, "dqn", seed, [score] * 3, env_steps=300)
    write_run(study, "dqn", 4, [50.0] * 3)
    html = write_report(study).read_text(encoding="utf-8")
    path = {name: _path(html, name) for name in ("curve-dqn", "seed-dqn-0", "seed-dqn-1", "seed-dqn-4")}
    assert path["curve-dqn"]["d"] == path["seed-dqn-0"]["d"] != path["seed-dqn-1"]["d"]
    assert "dasharray" in path["seed-dqn-4"]["style"]  # did not finish: dotted, and not in the curve
    assert "dasharray" not in path["seed-dqn-0"]["style"]


def _path(html: str, name: str) -> dict[str, str]:
    tags = Page(html).tags
    start = next(i for i, (_, a) in enumerate(tags) if a.get("id") == f"env0-return-{name}")
    return next(a for tag, a in tags[start:] if tag == "path")


def test_study_without_any_run_says_so(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=3)
    html = write_report(study).read_text(encoding="utf-8")
    assert "3 of 3 runs are missing" in html
    assert "dqn, seeds 0, 1, 2: never started" in html
    assert "No evaluation was recorded." in html


def test_half_a_summary_counts_as_missing(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    run = write_run(study, "dqn", 0, [1.0])
    (run / "summary.json").write_text('{"eval_return_mean": 1')
    assert "dqn, seed 0: no summary" in write_report(study).read_text(encoding="utf-8")


def test_a_run_without_an_evaluation_is_named(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    write_run(study, "dqn", 0, [], env_steps=300)
    assert "seed 0: finished without an evaluation" in write_report(study).read_text(encoding="utf-8")


def test_environments_with_a_namespace_are_found(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=[4], env_ids=("ALE/Pong-v5", LAKE))
    write_run(study, "dqn", 4, [1.0, 2.0], env_id="ALE/Pong-v5", env_steps=300)
    html = write_report(study).read_text(encoding="utf-8")
    assert (study / "runs" / "ALE_Pong-v5" / "dqn" / "seed_4").is_dir()
    assert "1 of 2 runs is missing" in html
    assert 'id="env0-return-curve-dqn"' in html


@pytest.mark.parametrize(
    ("on_disk", "asked", "expected"), [([], 2, (0, 1)), ([1, 2], 2, (0, 1)), ([5], [5, 6], (5, 6))]
)
def test_seeds_are_named_from_a_count_or_a_list(tmp_path, on_disk, asked, expected):
    describe(tmp_path, ["dqn"], seeds=asked)
    for seed in on_disk:
        write_run(tmp_path, "dqn", seed, [1.0])
    assert load_study(tmp_path).seeds == expected


def test_directory_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no study\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.0, "0"), (50176, "50,176"), (2400.4, "2,400"), (2e-8, "2e-08")]
    + [(0.5424, "0.542"), (-9.5, "-9.500"), (23.46, "23.5")],
)
def test_numbers_are_written_as_people_read_them(value, text):
    assert number(value) == text


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_browser_shows_every_curve_without_errors_or_requests(study, html, width, scheme):
    from playwright.sync_api import sync_playwright

    page_file = study / "index.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        messages, requests = [], []
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("dialog", lambda dialog: (messages.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page_file.as_uri())
        curves = tab.locator('figure[data-figure="returns"] svg [data-curve] path:last-of-type')
        assert curves.count() == len(AGENTS)
        boxes = [curves.nth(i).bounding_box() for i in range(len(AGENTS))]
        strokes = curves.evaluate_all("paths => paths.map(path => getComputedStyle(path).stroke)")
        legend = tab.locator('figure[data-figure="returns"] .legend li').all_inner_texts()
        overflow = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        browser.close()
    assert all(box is not None and box["width"] > width / 10 for box in boxes)
    assert len(set(strokes)) == len(AGENTS)
    assert "none" not in strokes
    assert all(any(agent in text for text in legend) for agent in AGENTS)
    assert overflow <= 0
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]


def test_maps_of_what_is_known_exactly_are_embedded(study):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    run = next(path.parent for path in sorted(study.glob("runs/*/*/*/summary.json")))
    (run / "pictures").mkdir(exist_ok=True)
    figure.savefig(run / "pictures" / "value_errors.png")
    try:
        html = write_report(study).read_text()
    finally:
        (run / "pictures" / "value_errors.png").unlink()
        (run / "pictures").rmdir()
        write_report(study)
    assert html.count('class="map"') == 1
    assert 'src="data:image/png;base64,' in html
    assert "largest |Q - Q*|" in html

"""The comparison page: right numbers, nothing hidden, nothing loaded, nothing executed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from page_studies import AGENTS, HOSTILE, LAKE, Page, describe, hostile_study, write_run
from rl_lab.studies.page.colours import LIGHT
from rl_lab.studies.page.formats import number
from rl_lab.studies.page.media import EMBEDDED_BYTES
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study
from rl_lab.studies.table import table_of
from rl_lab.types import UsageError


def page_of(study: Path) -> str:
    """Write the page alone and return it."""
    return write_report(study, files=False).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    return hostile_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def html(study) -> str:
    return page_of(study)


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_the_page_alone_lies_in_the_study_and_leaves_nothing_else(study, html):
    assert sorted(p.name for p in study.iterdir()) == ["index.html", "runs", "study.json"]
    assert html.lstrip().startswith("<!doctype html>")


def test_same_study_gives_the_same_page(study, html):
    assert page_of(study) == html


def test_every_agent_has_a_curve_in_each_figure_it_belongs_to(page):
    def curves(chart):
        return [t["meta"]["agent"] for t in page.traces(chart) if t["meta"]["part"] == "curve"]

    assert curves("frozenlake-v1-returns") == AGENTS
    assert curves("frozenlake-v1-regrets") == ["dqn", "value-iteration"]
    assert curves("frozenlake-v1-profile") == AGENTS
    figures = [a["data-chart"] for tag, a in page.tags if tag == "figure" and "data-chart" in a]
    assert figures == list(page.charts)
    assert len(figures) == 5


def test_ids_are_unique_and_every_reference_inside_the_page_resolves(page):
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    references = [a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"]
    assert references == ["env0", "again"]
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


def test_worst_episodes_and_frames_have_columns_where_runs_tell_of_them(tmp_path, html):
    assert "worst" not in html
    assert "frames</button>" not in html
    study = describe(tmp_path, ["dqn"], seeds=5)
    for seed, worst in enumerate([1.0, 2.0, 3.0, 5.0, 9.0]):
        told = write_run(study, "dqn", seed, [9.0], env_steps=50, env_frames=200, eval_return_cvar=worst)
        config = json.loads((told / "config.json").read_text())
        (told / "config.json").write_text(json.dumps(config | {"eval_cvar_level": 0.25 if seed else 0.1}))
    mixed = page_of(study)
    assert Page(mixed).cells["dqn", "worst"] == "3.333 [1.000, 9.000]"
    assert Page(mixed).cells["dqn", "env_frames"] == "200"
    assert ">worst episodes, IQM [95 %]</button>" in mixed
    (told.parent / "seed_0" / "config.json").write_text((told / "config.json").read_text())
    assert ">worst 25 % of episodes, IQM [95 %]</button>" in page_of(study)


def test_intervals_are_those_of_the_statistics_page(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=5)
    for seed, score in enumerate([1.0, 2.0, 3.0, 5.0, 9.0]):
        write_run(study, "dqn", seed, [score], env_steps=1)
    page = Page(page_of(study))
    assert page.cells["dqn", "iqm"] == "3.333 [1.000, 9.000]"  # not widened, they end at 1.67 and 7.67
    (row,) = table_of(load_study(study))
    assert (row["return_low"], row["return_high"]) == (1.0, 9.0)


def test_missing_seed_is_named_with_its_cause_and_counted(page, html):
    assert f"{HOSTILE}, seed 1: loss is <nan> at 120 (last evaluated at 100 steps)" in page.items
    assert "1 of 6 runs is missing" in html
    assert f"{HOSTILE} (1 of 2 seeds)" in page.items  # and in the legend


def test_probability_of_improvement_is_shown_for_each_pair(page, html):
    """Who comes first is decided on the seeds that both have."""
    pairs = [(a["data-x"], a["data-y"]) for _, a in page.tags if "data-x" in a]
    assert pairs == [(HOSTILE, "dqn"), ("value-iteration", "dqn"), ("value-iteration", HOSTILE)]
    probabilities = re.findall(r'data-metric="probability" data-value="([\d.]+)"', html)
    assert probabilities == ["0.5", "0.5", "1.0"]
    bars = page.traces("frozenlake-v1-improvement")
    assert [bar["x"] for bar in bars] == [[0.5], [0.5], [1.0]]
    assert [bar["meta"]["agent"] for bar in bars] == [HOSTILE, "value-iteration", "value-iteration"]


def test_optimum_is_drawn_on_the_scale_of_the_returns(page):
    """0.542 is discounted and without the time limit; the returns are neither."""
    assert [a["data-reference"] for _, a in page.tags if "data-reference" in a] == ["0.7403"]
    (panel,) = page.charts["frozenlake-v1-returns"]["views"][0]["panels"]
    assert [(shape["y0"], shape["y1"]) for shape in panel["layout"]["shapes"]] == [(0.7403, 0.7403)]


def test_without_an_optimal_run_no_optimum_is_drawn_among_the_returns(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    write_run(study, "dqn", 0, [0.0, 0.5], optimal_return=0.542, regret=0.05, exact_eval_return=0.7)
    html = page_of(study)
    assert "data-reference" not in html
    assert "The optimum, 0.542, is discounted" in html


def test_last_video_of_the_first_seed_that_all_have_is_embedded(page):
    """The other seed was better."""
    sources = [a["src"] for tag, a in page.tags if tag == "video"]
    assert sources == ["data:video/mp4;base64,d29yc2U="]


def test_large_video_is_linked_relative_to_the_page(tmp_path):
    study = describe(tmp_path, ["d q/n"], seeds=1)
    (run := write_run(study, "d q/n", 0, [1.0], env_steps=1)).joinpath("videos").mkdir()
    (run / "videos" / "1.mp4").write_bytes(bytes(EMBEDDED_BYTES + 1))
    page = Page(page_of(study))
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
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


def test_untrusted_text_is_escaped_and_only_our_scripts_may_run(page, html):
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script_sources = re.search(r"script-src ([^;]*)", policy)[1].split()
    assert len(script_sources) == 2
    assert all(source.startswith("'sha256-") for source in script_sources)
    assert [a.get("id") for tag, a in page.tags if tag == "script"] == ["charts", "colours", "plotly", None]
    assert "<nan>" not in html
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_colours_belong_to_agents_not_to_figures(page):
    for chart in page.charts:
        for trace in page.traces(chart):
            if trace["meta"]["agent"] == "value-iteration":
                assert {trace[part]["color"] for part in ("line", "marker") if part in trace} == {LIGHT[2]}


def test_study_without_any_run_says_so(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=3)
    html = page_of(study)
    assert "3 of 3 runs are missing" in html
    assert "dqn, seeds 0, 1, 2: never started" in html
    assert "No evaluation was recorded." in html


def test_half_a_summary_counts_as_missing(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    run = write_run(study, "dqn", 0, [1.0])
    (run / "summary.json").write_text('{"eval_return_mean": 1')
    assert "dqn, seed 0: no summary" in page_of(study)


def test_a_run_without_an_evaluation_is_named(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=1)
    write_run(study, "dqn", 0, [], env_steps=300)
    assert "seed 0: finished without an evaluation" in page_of(study)


def test_environments_with_a_namespace_are_found(tmp_path):
    study = describe(tmp_path, ["dqn"], seeds=[4], env_ids=("ALE/Pong-v5", LAKE))
    write_run(study, "dqn", 4, [1.0, 2.0], env_id="ALE/Pong-v5", env_steps=300)
    html = page_of(study)
    assert (study / "runs" / "ALE_Pong-v5" / "dqn" / "seed_4").is_dir()
    assert "1 of 2 runs is missing" in html
    assert "ale-pong-v5-returns" in Page(html).charts


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


def test_maps_of_what_is_known_exactly_are_embedded(study):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    run = next(path.parent for path in sorted(study.glob("runs/*/*/*/summary.json")))
    (run / "pictures").mkdir(exist_ok=True)
    figure.savefig(run / "pictures" / "value_errors.png")
    try:
        html = page_of(study)
    finally:
        (run / "pictures" / "value_errors.png").unlink()
        (run / "pictures").rmdir()
        page_of(study)
    assert html.count('class="map"') == 1
    assert 'src="data:image/png;base64,' in html
    assert "largest |Q - Q*|" in html

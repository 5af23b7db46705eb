"""The page in a browser: figures, legend, hover, tables, films; no error, no request, no fault of accessibility."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from browsers import needs_browser, running_browser
from page_studies import AGENTS, HOSTILE, LAKE, hostile_study, write_run
from rl_lab.studies.foreign.join import read_joins
from rl_lab.studies.foreign.kept import keep
from rl_lab.studies.report import write_report
from rl_lab.studies.results import run_directory

FRAMES = 30
SECOND = "b/B-v0"
PARTS = (
    "Until it is decided", "All environments", "Why is it worse?", "What is known exactly", "Episodes",
    "paper, not run by this study", "episodes that were cut off", "had a processor for", "Run it again",
)  # fmt: skip
RETURNS = 'figure[data-chart="frozenlake-v1-returns"]'


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """The page of three agents on two environments with every part that a page may have: films, maps, a decision, a
    diagnosis, joined runs.
    """
    study = hostile_study(tmp_path_factory.mktemp("study"))
    _add_environment(study)
    _add_parts(study)
    for run in study.glob("runs/*/*/seed_0"):
        (run / "pictures").mkdir()
        iio.imwrite(run / "pictures" / "values.png", np.full((120, 160, 3), 200, np.uint8))
    for run in study.glob(f"runs/{LAKE}/*/seed_0"):
        (run / "videos").mkdir(exist_ok=True)
        frames = np.random.default_rng(0).integers(0, 255, (FRAMES, 64, 64, 3), dtype=np.uint8)
        iio.imwrite(run / "videos" / "20000.mp4", frames, fps=30)
    return write_report(study, files=False)


def _add_environment(study: Path) -> None:
    for agent, score in zip(AGENTS, (3.0, 1.0, 5.0), strict=True):
        for seed in range(2):
            more = {"env_steps": 300, "train_seconds": 2.0, "cpu_seconds": 1.0, "wall_seconds": 3.0}
            more |= {"eval_returns": [score], "eval_capped_episodes": 1}
            write_run(study, agent, seed, [0.0, 0.5 * score, score + seed], SECOND, **more)
    info = json.loads((study / "study.json").read_bytes()) | {"env_ids": [LAKE, SECOND]}
    (study / "study.json").write_text(json.dumps(info))


def _add_parts(study: Path) -> None:
    question = {"env_id": LAKE, "x": "dqn", "y": HOSTILE, "verdict": "undecided", "seeds": 2}
    decision = {"alpha": 0.05, "max_looks": 8, "questions": [question]}
    (study / "decision.json").write_text(json.dumps(decision))
    diagnosis = {"split": {"regret": 0.125, "exploration": 0.1, "representation": 0.0, "rest": 0.025}}
    for env_id in (LAKE, SECOND):
        (run_directory(study, env_id, "dqn", 0) / "diagnosis.json").write_text(json.dumps(diagnosis))
    scores = study.parent / "scores.csv"
    scores.write_text(f"agent,env_id,seed,return,env_steps\npaper,{SECOND},0,2.5,300\n")
    keep(read_joins((f"paper={scores}",), [LAKE, SECOND], study), study)


@pytest.fixture(scope="module")
def opened(page):
    """Return what opens the page in a tab, and fails if anything was said in the console or requested."""
    with running_browser() as browser:

        @contextmanager
        def open_tab(width: int = 1280, scheme: str = "light"):
            said: list[str] = []
            requests: list[str] = []
            tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            tab.set_default_timeout(120_000)
            try:
                tab.on("console", lambda message: said.append(message.text))
                tab.on("pageerror", lambda error: said.append(str(error)))
                tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
                tab.on("request", lambda request: requests.append(request.url))
                tab.goto(page.as_uri())
                tab.wait_for_selector("html[data-ready]", state="attached")
                yield tab
            finally:
                tab.close()
            assert said == []
            assert [url for url in requests if not url.startswith(("data:", "blob:"))] == [page.as_uri()]

        yield open_tab


@pytest.fixture(scope="module")
def tab(opened):
    """The page in a wide light tab, of which each test looks at another part."""
    with opened() as tab:
        yield tab


def strokes(tab) -> list[str]:
    """Return the colours of the curves of returns, thin lines left out."""
    script = """figure => [...figure.querySelectorAll('.scatterlayer .trace path.js-line')]
        .filter(path => parseFloat(path.style.strokeWidth) > 2).map(path => path.style.stroke)"""
    return tab.locator(RETURNS).evaluate(script)


@needs_browser
@pytest.mark.parametrize(
    ("width", "scheme"), [(1280, "light"), pytest.param(400, "dark", marks=pytest.mark.long)]
)
def test_every_figure_is_there_nothing_runs_over_and_axe_finds_no_serious_fault(opened, width, scheme):
    from axe_playwright_python.base import AXE_SCRIPT

    with opened(width, scheme) as tab:
        figures = tab.locator("figure[data-chart]")
        kinds = figures.evaluate_all("figures => figures.map(figure => figure.dataset.kind)")
        drawn = figures.evaluate_all("figures => figures.map(f => f.querySelectorAll('.trace').length)")
        boxes = [figures.nth(i).locator(".plot").first.bounding_box() for i in range(len(kinds))]
        curves = strokes(tab)
        text = tab.locator("body").inner_text()
        overflow = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        legend = tab.locator(f"{RETURNS} .legend li").all_inner_texts()
        tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
        tab.evaluate(AXE_SCRIPT)
        found = tab.evaluate("axe.run()")
    assert kinds == [
        *("efficiency", "aggregates", "profile", "improvement"),  # on all environments
        *("returns", "regrets", "aggregates", "profile", "improvement"),
        *("returns", "aggregates", "profile", "improvement"),
    ]
    assert all(part in text for part in PARTS)
    assert all(count >= 2 for count in drawn)
    assert all(box["width"] > width / 9 and box["height"] > 80 for box in boxes)
    assert len(set(curves)) == len(curves) == len(AGENTS)
    assert all(any(agent in text for text in legend) for agent in AGENTS)
    assert f"{HOSTILE} (1 of 2 seeds)" in [text.strip() for text in legend]
    assert overflow <= 0
    faults = [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found["violations"]]
    assert faults == []
    assert len(found["passes"]) > 20


@needs_browser
def test_an_agent_is_hidden_in_all_figures_and_comes_back(tab):
    button = tab.locator(f'{RETURNS} .legend button[data-agent="dqn"]')
    pressed = '.legend button[data-agent="dqn"][aria-pressed="true"]'
    everywhere = tab.locator(pressed).count()
    before = strokes(tab)
    button.click()
    hidden = strokes(tab)
    bars = tab.locator('#env0 figure[data-kind="aggregates"] .plot').first.locator(".trace").count()
    assert tab.locator(pressed).count() == 0
    button.focus()
    tab.keyboard.press("Enter")
    assert tab.locator(pressed).count() == everywhere == 10
    assert strokes(tab) == before
    assert hidden == before[1:]
    assert bars == len(AGENTS) - 1


@needs_browser
def test_hovering_shows_the_values_of_all_agents(tab):
    tab.locator(f"{RETURNS} .plot").scroll_into_view_if_needed()
    box = tab.locator(f"{RETURNS} .plot .nsewdrag").bounding_box()
    tab.mouse.move(box["x"] + box["width"] * 0.97, box["y"] + box["height"] / 2)
    label = tab.locator(f"{RETURNS} .hoverlayer")
    tab.wait_for_function(
        "query => document.querySelector(query).textContent.includes('value-iteration')",
        arg=f"{RETURNS} .hoverlayer",
    )
    text = label.text_content()
    assert "300" in text  # steps
    assert "dqn : 0.5 [0.25, 0.75]" in text
    assert f"{HOSTILE} : 0.5" in text


@needs_browser
def test_hovering_over_a_bar_shows_its_interval(tab):
    aggregates = '#env0 figure[data-kind="aggregates"]'
    bar = tab.locator(f"{aggregates} .trace path.point").first
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    label = f"{aggregates} .hoverlayer"
    tab.wait_for_function("query => document.querySelector(query).textContent !== ''", arg=label)
    assert tab.locator(label).first.text_content() == "0.5 [0.25, 0.75]"  # dqn's IQM


@needs_browser
def test_curves_are_shown_over_seconds_too(tab):
    titles = [tab.locator(f"{RETURNS} .xtitle").text_content()]
    tab.locator(f"{RETURNS} .views button", has_text="training seconds").click()
    titles.append(tab.locator(f"{RETURNS} .xtitle").text_content())
    label = tab.locator(f"{RETURNS} .panels").get_attribute("aria-label")
    tab.locator(f"{RETURNS} .views button", has_text="environment steps").click()
    titles.append(tab.locator(f"{RETURNS} .xtitle").text_content())
    assert titles == ["environment steps", "training seconds", "environment steps"]
    assert "dqn" in label


@needs_browser
def test_tables_sort_by_a_click_on_their_header(tab):
    header = tab.locator("#env0 .results thead th", has_text="environment steps")

    def agents():
        return tab.locator("#env0 .results tbody tr").evaluate_all(
            "rows => rows.map(row => row.dataset.agent)"
        )

    assert agents() == AGENTS
    header.locator("button").click()
    assert (header.get_attribute("aria-sort"), agents()[-1]) == ("descending", "value-iteration")
    header.locator("button").click()
    assert (header.get_attribute("aria-sort"), agents()[0]) == ("ascending", "value-iteration")
    tab.locator("#env0 .results thead th", has_text="regret").locator("button").click()
    assert agents() == ["dqn", "value-iteration", HOSTILE]  # which has none, and so comes last
    assert tab.locator("#env0 .results th[aria-sort]").count() == 1


@needs_browser
def test_films_play_side_by_side(tab):
    films = tab.locator("video")
    assert films.count() == len(AGENTS)
    tops = {round(films.nth(i).bounding_box()["y"]) for i in range(len(AGENTS))}
    tab.locator("button.play").click()
    tab.wait_for_function(
        "() => [...document.querySelectorAll('video')].every(film => film.currentTime > 0.1)"
    )
    tab.wait_for_function("() => [...document.querySelectorAll('video')].every(film => film.ended)")
    assert tab.locator("button.play").text_content() == "Play all from the start"
    assert len(tops) == 1


@pytest.mark.long
@needs_browser
def test_light_and_dark_can_be_exchanged(opened):
    with opened() as tab:

        def looks():
            paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            return paper, strokes(tab), tab.locator("#theme").text_content()

        light = looks()
        tab.locator("#theme").click()
        dark = looks()
    with opened(scheme="dark") as tab:
        assert (tab.evaluate("getComputedStyle(document.body).backgroundColor"), strokes(tab)) == dark[:2]
    assert light[0] == "rgb(255, 255, 255)" != dark[0]
    assert not set(light[1]) & set(dark[1])
    assert (light[2], dark[2]) == ("Dark page", "Light page")

"""What the page looks like in a browser: nothing runs over, and maps can be read."""

from __future__ import annotations

import hashlib
import json

import pytest

from browsers import needs_browser, running_browser
from rl_lab.studies.page.formats import LONGEST_TEXT, shortened
from rl_lab.studies.page.media import width_of
from rl_lab.studies.page.render import SMALLEST
from rl_lab.studies.report import write_report
from rl_lab.studies.results import run_directory
from runs import learn

SHA = hashlib.sha256(b"1").hexdigest()
LAKE = "FrozenLake-v1"
AGENTS = ["value-iteration", "q-learning", "random"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a study on a wide map, with long values among the hyperparameters."""
    study = tmp_path_factory.mktemp("study")
    for agent in AGENTS:
        folder = run_directory(study, "CliffWalking-v1", agent, 0)
        learn(folder, agent, "CliffWalking-v1", total_steps=60, pictures=True, eval_max_steps=20)
        config = json.loads((folder / "config.json").read_bytes())
        config |= {
            "dataset": "a/very/long/folder/" * 8,
            "dataset_sha256": hashlib.sha256(agent.encode()).hexdigest(),
            "wrappers": [f"module:Wrapper{i}" for i in range(12)],
        }
        (folder / "config.json").write_text(json.dumps(config))
    info = {"env_ids": ["CliffWalking-v1"], "agents": AGENTS, "seeds": 1, "total_steps": 60}
    (study / "study.json").write_text(json.dumps(info))
    return write_report(study, files=False)


@pytest.fixture(scope="module")
def browser():
    with running_browser() as started:
        yield started


OVERFLOW = """() => ({
  page: document.documentElement.scrollWidth - innerWidth,
  cells: [...document.querySelectorAll('td, th')].filter(cell => cell.scrollWidth > cell.clientWidth + 1)
    .map(cell => cell.innerText),
  overlaps: [...document.querySelectorAll('.fields tr')].flatMap(row => {
    const boxes = [...row.cells].map(cell => {
      const range = document.createRange(); range.selectNodeContents(cell); return range.getBoundingClientRect(); });
    return boxes.slice(1).filter((box, i) => box.width && boxes[i].right > box.left).map(() => row.innerText); }),
  rows: [...document.querySelectorAll('.maps')].map(row =>
    new Set([...row.children].map(figure => Math.round(figure.getBoundingClientRect().top))).size),
  maps: [...document.querySelectorAll('img.map')].map(map => [map.clientWidth, +map.getAttribute('width')]),
  titles: [...document.querySelectorAll('.fields abbr')].map(text => [text.innerText, text.title]),
})"""


@needs_browser
@pytest.mark.parametrize("width", [1280, 800, 400])
def test_nothing_runs_over_and_maps_lie_in_rows_in_which_they_can_be_read(browser, page, width):
    tab = browser.new_page(viewport={"width": width, "height": 800})
    tab.goto(page.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    seen = tab.evaluate(OVERFLOW)
    tab.close()
    assert seen["page"] <= 0
    assert seen["cells"] == []
    assert seen["overlaps"] == []
    assert (
        len(seen["maps"]) == 9
    )  # values and regrets of all, errors of two, convergence of the solver; random has no values of its own
    assert all(SMALLEST * meant - 2 <= shown <= meant for shown, meant in seen["maps"])
    assert seen["rows"] == [1, 1, 1, 1]  # each kind of map beside one another
    assert max(meant for _, meant in seen["maps"]) > 600
    assert all(len(text) <= LONGEST_TEXT for text, _ in seen["titles"])
    wholes = {whole for _, whole in seen["titles"]}
    assert "a/very/long/folder/" * 8 in wholes
    assert sum(len(whole) == 64 for whole in wholes) == 3  # dataset_sha256 of each agent


def test_what_decides_no_result_is_not_among_the_hyperparameters(page):
    text = page.read_text()
    assert "dataset_sha256" in text
    assert not any(name in text for name in ("config_sha256", "stall_seconds", "wandb_notes"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SHA, f"{SHA[:12]}…"),
        ("0.5", "0.5"),
        ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
        ("x" * 99, "x" * 43 + "…"),
    ],
)
def test_long_values_are_shortened(text, shown):
    assert shortened(text) == shown


def test_values_that_differ_beyond_what_is_shown_are_marked_as_different(tmp_path):
    for agent, end in (("dqn", "a"), ("ppo", "b")):
        folder = run_directory(tmp_path, LAKE, agent, 0)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"agent": agent, "fields": {"map": "x" * 99 + end}}))
    (tmp_path / "study.json").write_text(
        json.dumps({"env_ids": [LAKE], "agents": ["dqn", "ppo"], "seeds": 1, "total_steps": 10})
    )
    html = write_report(tmp_path, files=False).read_text()
    assert '<tr data-field="map" class="differs">' in html
    assert f'title="{"x" * 99}a"' in html


def test_broken_pictures_and_films_of_older_versions_are_left_out(tmp_path):
    folder = run_directory(tmp_path, LAKE, "dqn", 0)
    for name in ("pictures/values.png", "videos/final.mp4"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"")
    (tmp_path / "study.json").write_text(
        json.dumps({"env_ids": [LAKE], "agents": ["dqn"], "seeds": 1, "total_steps": 10})
    )
    assert width_of(folder / "pictures" / "values.png") is None
    html = write_report(tmp_path, files=False).read_text()
    assert "<video" not in html
    assert 'class="map"' not in html

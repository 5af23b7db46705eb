"""A trained policy made smaller, and its card in a real browser."""

from __future__ import annotations

import json

import numpy as np
import pytest

from browsers import PATIENCE, needs_browser, running_browser
from rl_lab.exporting.export import Wanted, export
from runs import learn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What was exported of a policy that has learned CartPole."""
    run = tmp_path_factory.mktemp("pole") / "run"
    learn(run, "ppo", "CartPole-v1", preset="zoo:CartPole-v1", seed=0)
    wanted = Wanted(int8=True, prune=0.5, distil=(16,), distil_episodes=10, distil_steps=10_000, episodes=10)
    return export(run, wanted=wanted).folder


@pytest.mark.long
def test_int8_and_pruned_cartpole_keep_their_return_within_five_percent(folder):
    rows = {row["policy"]: row for row in json.loads((folder / "table.json").read_text())["rows"]}
    assert set(rows) == {"lab", "exported", "int8", "pruned 50 %", "distilled 16"}
    base = np.mean(rows["lab"]["returns"])
    assert base > 475  # half-learned policies balance for longer or shorter whatever is done to them
    assert rows["exported"]["returns"] == rows["lab"]["returns"]
    for name in ("int8", "pruned 50 %"):
        assert abs(np.mean(rows[name]["returns"]) - base) <= 0.05 * base
    assert rows["distilled 16"]["bytes"] < rows["exported"]["bytes"] / 4
    assert rows["distilled 16"]["return"]["value"] > 0.5 * base


@pytest.mark.long
@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_card_shows_scores_and_film_without_outside_requests(folder, scheme):
    asked, faults = [], []
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text))
        page.goto((folder / "card.html").as_uri())
        width = page.evaluate("document.documentElement.scrollWidth")
        duration = page.evaluate(
            "new Promise(done => { const v = document.querySelector('video');"
            " const told = () => done(v.duration); v.readyState ? told() : v.onloadedmetadata = told;"
            " v.onerror = told; })"
        )
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = page.inner_text("main")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert faults == []
    assert width <= 390
    assert duration > 1
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")
    for told in (
        "ppo on CartPole-v1",
        "int8",
        "n_steps",
        "policy.onnx",
        "python play.py",
        "weights of the run",
    ):
        assert told in text

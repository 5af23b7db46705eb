"""The live page in a browser: controls, bars, two clients, taking over, its end; no error, no foreign request."""

from __future__ import annotations

import numpy as np
import pytest
from tabs import Tab

from browsers import needs_browser, running_browser
from rl_lab.explanation.insight import facts_of, insight
from rl_lab.watching.messages import Past
from rl_lab.watching.past import PastEpisode
from rl_lab.watching.reasons import Reasons
from rl_lab.watching.session import Pick
from watched_games import FirstLegal, balancing, make_cartpole, make_narrow, served, session_of

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def browser():
    """The browser that all tests share."""
    with running_browser() as browser:
        yield browser


@needs_browser
def test_steps_scrubbing_and_bars_equal_the_agents_own_numbers(browser):
    session, twin = session_of(balancing(), kept=3), session_of(balancing())
    with served(session) as (_, port), Tab(browser, port) as page:
        shown = []
        for step in range(8):
            page.shows_step(step)
            shown.append(page.bars())
            moment = twin.agents[0].track.last
            assert shown[-1] == (moment.insight["values"], moment.action)
            twin.advance()
            page.tab.click("#step")
        page.shows_step(8)
        assert len({str(values) for values, _ in shown}) == 8  # they change
        page.tab.locator("#scrub").fill("2")  # long since no longer kept
        page.shows_step(2)
        assert page.bars() == shown[2]
        assert page.tab.text_content("#position") == "2 / 8"
        page.tab.locator("#seed").fill("5")
        page.tab.locator("#seed").press("Enter")
        page.until("document.getElementById('where').textContent == 'episode 0 of seed 5'")
        page.tab.click("#next")
        page.until("document.getElementById('where').textContent == 'episode 1 of seed 5'")
    twin.close()


@needs_browser
def test_play_and_pause_are_seen_by_two_clients_at_once(browser):
    with (
        served(session_of(balancing())) as (_, port),
        Tab(browser, port) as one,
        Tab(browser, port, 390, "dark") as two,
    ):
        one.tab.click("#play")
        for page in (one, two):
            page.until("Number(document.querySelector('.agent').dataset.step) > 5")
            assert page.tab.text_content("#status") == "playing"
        two.tab.keyboard.press("Space")
        for page in (one, two):
            page.until("document.getElementById('status').textContent == 'paused'")
        steps = {page.tab.locator(".agent").get_attribute("data-step") for page in (one, two)}
        assert len(steps) == 1
        assert two.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def make_unfallen():
    """CartPole whose episode goes on however far the pole has fallen, for a key may be held for any time."""
    env = make_cartpole(env_kwargs={"max_episode_steps": -1})  # without a limit
    env.unwrapped.theta_threshold_radians = float("inf")
    env.unwrapped.x_threshold = 1e9
    return env


@needs_browser
def test_keys_take_over_and_hand_back(browser):
    session = session_of(balancing(), make=make_unfallen)
    with served(session) as (_, port), Tab(browser, port) as page:
        page.tab.click(".take")
        page.until("document.getElementById('status').textContent == 'you play · paused'")
        page.tab.locator("body").press("p")  # stands for nothing
        page.tab.click("#play")
        page.until("document.getElementById('status').textContent.endsWith('waiting for a key')")
        page.tab.locator("h1").click()
        for key in ("ArrowRight", "ArrowLeft", "2"):
            step = len(session.agents[0].track.lane.actions) + 1
            page.tab.keyboard.down(key)
            page.until(f"Number(document.querySelector('.agent').dataset.step) >= {step}")
            page.tab.keyboard.up(key)
            page.until("document.getElementById('status').textContent.endsWith('waiting for a key')")
        actions = [int(a) for a in session.agents[0].track.lane.actions]
        order = [a for i, a in enumerate(actions) if i == 0 or a != actions[i - 1]]
        assert order == [1, 0, 1]
        assert page.tab.locator("#save").is_visible()
        page.tab.keyboard.press("Escape")
        page.until("document.getElementById('status').textContent == 'playing'")


@needs_browser
def test_buttons_of_illegal_actions_are_disabled_and_their_keys_are_answered_in_a_line(browser):
    session = session_of(FirstLegal(), make=make_narrow, names=("a", "b", "c"))
    with served(session) as (_, port), Tab(browser, port) as page:
        page.tab.click(".take")
        page.tab.wait_for_selector(".keys [data-action='2'][aria-disabled='true']")
        assert page.tab.locator(".keys [aria-disabled='true']").count() == 1
        page.tab.keyboard.press("2")
        page.says("#toast", "action 2 is illegal here (allowed: 1, 3)")
        for action in (2, 3):  # the first is disabled
            page.tab.locator(f".keys [data-action='{action}']").click(force=True)
            page.tab.click("#step")
        page.tab.wait_for_selector(".keys [data-action='3'][aria-disabled='true']")
        assert [int(taken) for taken in session.agents[0].track.lane.actions] == [3]


@needs_browser
def test_the_page_says_that_the_server_has_ended_and_keeps_what_it_shows(browser):
    with served(session_of(balancing(), balancing(-1.0))) as (live, port), Tab(browser, port) as page:
        page.tab.click("#step")
        page.shows_step(1)
        live.end()
        page.tab.wait_for_selector("#banner:not([hidden])")
        assert "The server has ended" in page.tab.text_content("#banner")
        assert page.tab.locator(".agent").count() == 2
        assert page.tab.locator("#play").is_disabled()


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_no_serious_fault_of_accessibility(browser, width, scheme):
    from axe_playwright_python.base import AXE_SCRIPT

    with served(session_of(balancing())) as (_, port), Tab(browser, port, width, scheme) as page:
        page.tab.evaluate(AXE_SCRIPT)
        page.tab.click(".take")
        found = page.tab.evaluate("axe.run().then(result => result.violations)")
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        assert page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


class Distributed:
    """A policy that tells the return's distribution of each action: 1 with probability 3/4, and 5."""

    def __init__(self, told: dict[str, list[float]]):
        self._policy, self._told = balancing(), told
        self.initial_state, self.act = self._policy.initial_state, self._policy.act

    def inspect(self, obs, state, is_first, mask=None):
        told = {name: np.tile(values, (len(obs), 2, 1)) for name, values in self._told.items()}
        return self._policy.inspect(obs, state, is_first, mask) | told


@needs_browser
@pytest.mark.parametrize(
    "told",
    [{"atoms": [1.0, 1.0, 1.0, 5.0]}, {"atoms": [1.0, 5.0], "atom_probabilities": [0.75, 0.25]}],
    ids=["quantiles", "probabilities"],
)
def test_the_distribution_of_the_return_is_drawn(browser, told):
    """Three quarters of the return's probability lie at the left end, and the rest at the right."""
    columns = drawn_distribution(browser, told)
    third = len(columns) // 3
    left, middle, right = (max(part) for part in (columns[:third], columns[third:-third], columns[-third:]))
    assert left > 40
    assert right == pytest.approx(left / 3, abs=2)
    assert middle <= 1  # the foot of empty columns


@needs_browser
@pytest.mark.parametrize("count", [21, 75])
def test_evenly_spaced_atoms_have_a_column_each(browser, count):
    """Equally likely ones are equally high, and none falls between two others."""
    atoms = np.linspace(-3.0, 10.0, count).astype(np.float32).tolist()
    columns = np.array(drawn_distribution(browser, {"atoms": atoms}))
    filled = columns > 0
    assert columns[filled].min() >= columns.max() - 1
    found = np.count_nonzero(filled[1:] & ~filled[:-1])
    assert count - 2 <= found <= count  # the outermost ones may touch their neighbours


def drawn_distribution(browser, told: dict[str, list[float]]) -> list[int]:
    """Return how many pixels are filled in each column of the picture of a distribution."""
    facts = facts_of(make_cartpole())
    session = session_of(Distributed(told))
    session.agents[0].track.lane.explain = lambda *seen: insight(*seen, facts).as_dict()
    heights = """canvas => {
        const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const wanted = getComputedStyle(document.documentElement).getPropertyValue("--first").trim();
        const rgb = [1, 3, 5].map((at) => parseInt(wanted.slice(at, at + 2), 16));
        const filled = (at) => data[at + 3] > 200 && rgb.every((part, i) => Math.abs(data[at + i] - part) < 8);
        return Array.from({ length: width }, (_, x) =>
            Array.from({ length: height }, (_, y) => filled(4 * (y * width + x))).filter(Boolean).length);
    }"""
    with served(session) as (_, port), Tab(browser, port) as page:
        page.tab.click("#step")
        page.shows_step(1)
        page.tab.wait_for_selector(".distribution canvas")  # drawn with the next frame of the screen
        return page.tab.locator(".distribution canvas").evaluate(heights)


def pixel(selector: str, x: str, y: str) -> str:
    """Return a script for the four numbers of a pixel of a canvas."""
    return (
        "(() => { const one = document.createElement('canvas'); one.width = one.height = 1;"
        " const context = one.getContext('2d', { willReadFrequently: true });"
        f" context.drawImage(document.querySelector('{selector}'), -{x}, -{y});"
        " return Array.from(context.getImageData(0, 0, 1, 1).data); })()"
    )


def alternating(episode: PastEpisode) -> list[np.ndarray]:
    """The actions of an episode on record."""
    return [np.array(i % 2) for i in range(episode.length)]


def carried(session, command) -> str | None:
    """Carry out commands, with training episodes of three steps of which row 10 has another return on record."""
    if isinstance(command, Past):
        rows = range(0, 11, 10) if command.episode == "every:10" else [7]
        returns = {10: 9.0}
        episodes = [PastEpisode(k, 0, k, 5 + k, returns.get(k, 3.0), 3, False, False, 100 * k) for k in rows]
        session.show_past(Pick(episodes, alternating))
        session.pause()
        return None
    command.apply(session)
    return None


@needs_browser
def test_training_episodes_are_picked_and_what_was_checked_is_said(browser):
    session = session_of(balancing())
    with served(session, carry=carried, past=20) as (_, port), Tab(browser, port) as page:
        assert page.tab.locator("#pick-number").is_hidden()
        page.tab.click("#pasts button")
        page.says("#where", "training episode 7")
        assert "returned 3 in 3 steps, when the run had taken 700" in page.tab.text_content("#check")
        page.tab.locator("#pick").select_option("every:")
        assert page.tab.locator("#past").input_value() == "10"
        page.tab.click("#pasts button")
        page.says("#where", "training episode 0")
        assert "(1 of 2)" in page.tab.text_content("#check")
        for step in (1, 2, 3):
            page.tab.click("#step")
            page.shows_step(step)
        page.says("#check", "training episode 0: return 3 and length 3 are those in episodes.csv.")
        page.tab.click("#next")
        page.says("#where", "training episode 10")
        for step in (1, 2, 3):
            page.tab.click("#step")
            page.shows_step(step)
        page.until("document.querySelector('#check.bad').textContent.includes('return 3.0 instead of 9.0')")
        assert "the game is not deterministic" in page.tab.text_content("#check")


@needs_browser
def test_reasons_are_found_where_they_are_asked_for_and_nowhere_else(browser):
    asked = []

    class Told(Reasons):
        def find(self, method, frame, *given):
            asked.append(method)
            frame = frame if method == "contributions" else np.full_like(frame, (255, 0, 0))
            told = {"names": ["lean", "speed"], "contributions": [0.5, -0.25], "total": 0.25, "output": 1}
            return frame, told if method == "contributions" else None

    session = session_of(balancing(), reasons=Told(("gradient", "contributions")))
    corner = pixel("canvas.picture", "5", "5")
    with served(session) as (_, port), Tab(browser, port) as page:
        page.until(f"{corner}[1] > 200")
        page.tab.click("#step")
        page.shows_step(1)
        assert asked == []
        assert page.tab.locator("#reasons option").all_text_contents() == [
            "not shown", "pixels, by gradients", "numbers",
        ]  # fmt: skip
        page.tab.locator("#reasons").select_option("contributions")
        page.tab.wait_for_selector(".reasons:not([hidden])")
        assert page.tab.locator(".reasons .name").all_text_contents() == ["lean", "speed"]
        assert page.tab.locator(".reasons .number").all_text_contents() == ["0.500", "-0.250"]
        assert page.tab.text_content(".reasons figcaption").startswith("What speaks for right")
        page.tab.locator("#reasons").select_option("gradient")
        page.until(f"{corner}[0] > 200 && {corner}[1] < 60")
        assert page.tab.locator(".reasons").is_hidden()
        assert asked == ["contributions", "gradient"]
        page.tab.locator("#reasons").select_option("")
        page.until(f"{corner}[1] > 200")


@needs_browser
def test_the_map_lies_on_the_cells_that_the_picture_shows(browser):
    """The grid takes the left half of the picture: its single cell with a value is coloured, and nothing else is."""
    session = session_of(balancing())
    cells = {"values": [[None, 1.0]], "arrows": [[[], []]], "area": [0.0, 0.0, 0.5, 1.0]}
    with served(session) as (live, port), Tab(browser, port) as page:
        live.broadcast.tell({"type": "map 0", "agent": 0, "cells": cells})
        page.tab.wait_for_selector(".map-switch:not([hidden])")
        page.tab.click(".show-map")
        width = page.tab.evaluate("document.querySelector('canvas.map').width")
        places = [str(round(share * width)) for share in (0.1, 0.4, 0.6, 0.9)]
        assert [page.tab.evaluate(pixel("canvas.map", x, "10"))[3] > 0 for x in places] == [
            False, True, False, False,
        ]  # fmt: skip


@needs_browser
def test_labels_of_an_axis_are_whole(browser):
    script = """() => {
        const canvas = document.createElement('canvas'), said = [];
        canvas.style = 'width: 400px; height: 100px'; document.body.append(canvas);
        const context = canvas.getContext('2d'), write = context.fillText;
        context.fillText = (text, x, y) => {
            const width = context.measureText(text).width;
            said.push(context.textAlign === 'right' ? x - width : x); };
        return import('./plot.js').then(({ drawLines }) => {
            drawLines(canvas, [{ points: [[0, -100000.5], [1, -123456.5]], colour: 'first' }]);
            canvas.remove(); return Math.min(...said); }); }"""
    with served(session_of(balancing())) as (_, port), Tab(browser, port) as page:
        assert page.tab.evaluate(script) >= 0


@needs_browser
def test_a_legend_says_whose_training_each_curve_shows(browser):
    session = session_of(balancing(), balancing())
    with served(session) as (live, port), Tab(browser, port) as page:
        for agent, evaluated in ((0, [[20, 2.0]]), (1, [])):
            curves = {"training": [[10, 1.0], [20, 3.0]], "evaluation": evaluated}
            live.broadcast.tell(
                {"type": f"curves {agent}", "agent": agent, "env_steps": 20, "curves": curves}
            )
        page.until("document.querySelectorAll('#legend .legend').length === 3")
        assert page.tab.locator("#legend .legend").all_text_contents() == [
            "agent 0: training episodes", "agent 0: evaluations", "agent 1: training episodes",
        ]  # fmt: skip
        colours = page.tab.locator("#legend i").evaluate_all("all => all.map(i => i.style.background)")
        assert colours == ["var(--first)", "var(--optimum)", "var(--second)"]
        assert page.tab.locator("#training").is_visible()


@needs_browser
def test_pictures_stand_at_one_height_and_notes_cover_no_controls(browser):
    heights = """() => {
      const [one, other] = document.querySelectorAll(".agent");
      one.querySelector(".agent-note").textContent = "acts as checkpoint 20";
      one.querySelector(".agent-note").hidden = false;
      other.querySelector(".agent-note").textContent = "";
      other.querySelector(".agent-note").hidden = true;
      return [one, other].map((agent) => agent.querySelector(".stage").getBoundingClientRect().top);
    }"""
    covered = """() => {
      const toast = document.getElementById("toast");
      toast.textContent = "A newer checkpoint (step 20) acts from the next episode on.";
      toast.classList.add("shown");
      const above = toast.getBoundingClientRect();
      return ["controls", "settings"].filter((id) => {
        const part = document.getElementById(id).getBoundingClientRect();
        return part.height && above.bottom > part.top && above.top < part.bottom;
      });
    }"""
    with served(session_of(balancing(), balancing())) as (_, port), Tab(browser, port) as page:
        first, second = page.tab.evaluate(heights)
        assert first == second
        assert page.tab.evaluate(covered) == []


@needs_browser
def test_exact_values_beside_probabilities_tell_their_scale(browser):
    script = """async () => {
      const { Bars } = await import("/bars.js");
      const figure = document.createElement("figure");
      figure.innerHTML = "<figcaption></figcaption><ol></ol>";
      new Bars(figure).show({ kind: "probabilities", values: [0.5, 0.5], optimal: [-2, 3], chosen: 0 }, ["a", "b"]);
      return figure.querySelector("figcaption").textContent;
    }"""
    with served(session_of(balancing())) as (_, port), Tab(browser, port) as page:
        assert page.tab.evaluate(script).endswith("exact Q-value, bars from -2 to 3")

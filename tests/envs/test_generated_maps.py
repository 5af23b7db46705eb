"""Maps at random: each is a sound environment whose model is what is played, or is refused in one line."""

from __future__ import annotations

import re

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasiums_check
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rl_lab.environments.check_env import check_env
from rl_lab.environments.make import make_env
from rl_lab.envs.gridworld import GridWorld
from rl_lab.envs.maps import MAPS, parse_map
from rl_lab.mdp.model import extract_model
from rl_lab.mdp.solve import value_iteration
from rl_lab.types import UsageError

FUZZ = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
REASONS = r": map (row \d+ has \d+ cells|has the character '.+'|.* has no start|'.*' must be one of)"
REWARDS = {"1": 0.5, "x": -2.0}
LETTERS = "#SGP. .S1x"


def rows_of(letters: str, width: st.SearchStrategy[int]) -> st.SearchStrategy[str]:
    """Draw maps of up to four rows; all of the same width, if that is a constant."""
    row = width.flatmap(lambda w: st.text(letters, min_size=w, max_size=w))
    return st.lists(row, min_size=1, max_size=4).map("\n".join)


EVEN = st.integers(1, 5).flatmap(lambda w: rows_of(LETTERS, st.just(w)))
RAGGED = rows_of(LETTERS, st.integers(0, 4))
UNKNOWN = rows_of(LETTERS + "q?\t\r\u2028é\x00", st.integers(0, 4))
TEXTS = st.one_of(EVEN, EVEN, RAGGED, UNKNOWN, st.sampled_from(["", "\n", " ", "\n \n", *MAPS, "Default"]))
FIELDS = st.fixed_dictionaries(
    {
        "slip": st.sampled_from([0.0, 0.3, 1.0]),
        "observation": st.sampled_from(["state", "coordinates", "pixels"]),
    }
)


def make(text: str, **fields) -> gymnasium.Env:
    return make_env("lab/GridWorld-v0", {"map": text, "rewards": REWARDS, **fields})


def refusal(text: str, **fields) -> str | None:
    """Return why there is no such world, in one line, or None."""
    said = None
    try:
        make(text, **fields).close()
    except UsageError as error:
        said = str(error)
    assert said is None or said.isprintable()
    return said


def is_sound(text: str) -> bool:
    """Say, apart from how maps are read, whether a text is a map: rows of one width, known letters, a start."""
    rows = MAPS.get(text, text).split("\n")
    while rows and not rows[0].strip():
        rows = rows[1:]
    while rows and not rows[-1].strip():
        rows = rows[:-1]
    widths = {len(row) for row in rows}
    margins = [len(row) - len(row.lstrip(" ")) for row in rows]
    known = set("".join(rows)) <= set("#SGP. 1x")
    return bool(rows) and known and len(widths) == 1 and "S" in "".join(rows) and max(widths) > min(margins)


@settings(FUZZ, max_examples=250)
@given(text=TEXTS)
@example(text="S")
@example(text="S#G")
@example(text="#S\nG#")
@example(text="   S\n   G")
@example(text="S.\n\nG.")
def test_a_text_is_a_map_or_is_refused_in_one_line(text):
    said = refusal(text)
    assert (said is None) == is_sound(text)
    assert said is None or re.search(REASONS, said), said


@settings(FUZZ, max_examples=40)
@given(text=EVEN.filter(is_sound), fields=FIELDS)
@example(text="S#G", fields={"slip": 0.3, "observation": "pixels"})
@example(text="S", fields={"slip": 1.0, "observation": "coordinates"})
def test_every_map_is_a_sound_environment(text, fields):
    found = check_env(lambda: make(text, **fields), steps=40, episodes=2)
    assert [finding for finding in found if finding.verdict == "fault"] == []
    gymnasiums_check(make(text, **fields).unwrapped, skip_render_check=True)


@settings(FUZZ, max_examples=60)
@given(text=EVEN.filter(is_sound), fields=FIELDS)
@example(text="S#G", fields={"slip": 0.3, "observation": "state"})
def test_its_model_has_every_step_that_is_played(text, fields):
    env = make(text, **fields)
    model, base = extract_model(env), env.unwrapped
    assert model is not None
    assert isinstance(base, GridWorld)
    seen_as = model.observe(np.arange(model.num_states))
    env.action_space.seed(1)
    for seed in range(4):
        obs, _ = env.reset(seed=seed)
        assert model.initial[base._state] > 0
        for _ in range(8):
            state, action = base._state, int(env.action_space.sample())
            np.testing.assert_array_equal(obs, seen_as[state])
            obs, reward, terminated, truncated, _ = env.step(action)
            outcomes = outcomes_of(model, state, action)
            assert (base._state, reward, terminated) in outcomes
            assert fields["slip"] or len(outcomes) == 1
            if terminated or truncated:
                break


def outcomes_of(model, state: int, action: int) -> set[tuple[int, float, bool]]:
    """Return (successor, reward, terminated) of all that an action may lead to."""
    first, beyond = model.indptr[state * 4 + action], model.indptr[state * 4 + action + 1]
    columns = (model.successor, model.reward, model.terminated)
    return {(int(s), float(r), bool(t)) for s, r, t in zip(*(c[first:beyond] for c in columns), strict=True)}


@settings(FUZZ, max_examples=30)
@given(text=EVEN.filter(is_sound), slip=st.sampled_from([0.0, 0.3]))
@example(text="S#G", slip=0.0)
def test_every_model_can_be_solved(text, slip):
    """Discounted, whether or not a goal can be reached; where none can, a step's price is paid for ever."""
    model = extract_model(make_env("lab/GridWorld-v0", {"map": text, "rewards": REWARDS, "slip": slip}))
    v = value_iteration(model, 0.9).v
    assert np.isfinite(v).all()
    if not set(text) & set("G1"):
        assert (v <= 1e-6).all()


@settings(FUZZ, max_examples=60)
@given(text=TEXTS)
def test_what_is_read_is_the_text_without_its_margin(text):
    if is_sound(text):
        lines = parse_map(text, REWARDS).lines
        kept = [line.strip(" ") for line in MAPS.get(text, text).split("\n") if line.strip()]
        assert [line.strip(" ") for line in lines if line.strip()] == kept


@pytest.mark.parametrize("name", ["step_reward", "goal_reward", "pit_reward", "slip"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, [1.0], 1j])
def test_numbers_that_are_none_are_refused(name, value):
    assert refusal("SG", **{name: value}) is not None


@pytest.mark.parametrize("value", [None, 3, ["S.G"], b"SG", ("S", "G"), {"S": 1}])
def test_what_is_no_text_is_refused(value):
    assert refusal(value) is not None


@pytest.mark.parametrize(
    "rewards",
    [{"1": float("nan")}, {"1": "a"}, {"1": None}, {"": 1.0}, {"\n": 1.0}, {1: 1.0}, {"1": 1j}, [1], "x"],
)
def test_odd_rewards_are_refused(rewards):
    assert refusal("SG", rewards=rewards) is not None

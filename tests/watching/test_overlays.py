"""Overlays: bars as long as the figures say, the chosen action marked, panels of equal size."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.evaluation.frames import Moment
from rl_lab.watching.overlays import (
    BACKGROUND,
    BAR,
    CHOSEN,
    LEAST_WIDTH,
    MOST_BARS,
    Overlay,
    bar_lengths,
    bar_names,
    bar_values,
    captioned,
    fitting,
    font,
)

FRAME = np.full((100, 300, 3), 7, np.uint8)


def moment(action=0, step=3, return_=1.5, **figures):
    chosen = None if action is None else np.asarray(action)
    return Moment(FRAME, step, return_, chosen, {name: np.asarray(x) for name, x in figures.items()})


def bars(picture, ink):
    """The lengths of the bars in a panel, each a run of at least 8 pixels of this colour in a row of its own."""
    panel = picture[100:]
    rows = (panel == np.array(ink)).all(axis=2).sum(axis=1)
    starts = [r for r in range(1, len(rows)) if rows[r] >= 8 and rows[r - 1] < 8]
    return [int(rows[r + 4]) for r in starts]


class TestBars:
    @pytest.mark.parametrize(
        ("values", "lengths"),
        [
            ([1.0, 3.0, 2.0], [0, 1, 0.5]), ([5.0, 5.0], [1, 1]), ([-1.0, -np.inf, -3.0], [1, 0, 0]),
            ([-np.inf, -np.inf], [0, 0]), ([np.nan, 1.0, 2.0], [0, 0, 1]),
        ],
    )  # fmt: skip
    def test_values_are_spread_from_the_least_to_the_greatest_legal_one(self, values, lengths):
        assert bar_lengths(np.array(values), False).tolist() == lengths

    def test_probabilities_are_their_own_lengths(self):
        assert bar_lengths(np.array([0.25, 0.75]), True).tolist() == [0.25, 0.75]

    def test_figures_that_are_no_bars(self):
        assert bar_values(moment()) is None
        assert bar_values(moment(value=1.0)) is None
        assert bar_values(moment(q_values=[1.0, 2.0])).tolist() == [1, 2]
        assert bar_values(moment(q_values=[1.0, 2.0], probabilities=[0.5, 0.5])).tolist() == [0.5, 0.5]

    def test_are_drawn_with_the_chosen_one_marked(self):
        picture = Overlay("LMR").draw(FRAME, moment(1, probabilities=[0.5, 0.25, 0.25]))
        (chosen,), (left, right) = bars(picture, CHOSEN), bars(picture, BAR)
        assert abs(left - 2 * right) <= 2
        assert abs(chosen - right) <= 2
        assert right > 30

    def test_a_discrete_space_may_begin_elsewhere(self):
        picture = Overlay("LMR", first_action=5).draw(FRAME, moment(5, probabilities=[0.5, 0.25, 0.25]))
        (chosen,) = bars(picture, CHOSEN)
        assert chosen > 1.8 * bars(picture, BAR)[0]

    def test_short_names_are_written_out(self, monkeypatch):
        written = []
        monkeypatch.setattr(
            "rl_lab.watching.overlays.fitting", lambda text, width: written.append(fitting(text, width))
        )
        monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda *args: None)
        Overlay(["0", "1", "LEFT", "RIGHT"]).draw(FRAME, moment(1, q_values=np.arange(4)))
        assert written[2:] == ["0", "1", "LEFT", "RIGHT"]


class TestPanel:
    @pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 18, MOST_BARS, MOST_BARS + 1])
    @pytest.mark.parametrize("width", [30, 200, 300, 601])
    def test_all_frames_of_a_film_have_one_size(self, count, width):
        names = [f"action {i}" for i in range(count)]
        overlay, frame = Overlay(names), np.full((50, width, 3), 9, np.uint8)
        ways = [moment(None), moment(0, value=1e9), moment(0, step=10**9, return_=-1e300)]
        if count:
            ways += [
                moment(count - 1, q_values=np.arange(count)),
                moment(0, probabilities=np.ones(count) / count),
            ]
        pictures = [overlay.draw(frame, way) for way in ways]
        assert {picture.shape for picture in pictures} == {pictures[0].shape}
        assert pictures[0].shape[1] == max(width, LEAST_WIDTH)
        assert (pictures[0][:50, (max(width, LEAST_WIDTH) - width) // 2 :][:, :width] == 9).all()

    def test_what_is_said_differs_with_what_happens(self):
        overlay = Overlay("LR")
        over, cut = (Moment(FRAME, 3, 1.5, None, {}, *ends) for ends in ((True, False), (False, True)))
        ways = [
            moment(),
            moment(1),
            moment(step=4),
            moment(return_=2.5),
            moment(value=2.0),
            moment(None),
            over,
            cut,
        ]
        assert len({overlay.draw(FRAME, way).tobytes() for way in ways}) == len(ways)
        assert overlay.draw(FRAME, moment(), "later").tobytes() != overlay.draw(FRAME, moment()).tobytes()

    def test_continuous_actions_are_written_as_numbers(self):
        one, other = (Overlay().draw(FRAME, moment([0.5, x])) for x in (0.25, 0.75))
        assert one.tobytes() != other.tobytes()
        assert not bars(one, CHOSEN)


class TestText:
    def test_what_is_too_long_is_cut_with_an_ellipsis(self):
        cut = fitting("a long line of text " * 9, 200)
        assert cut.endswith("…")
        assert font().getlength(cut) <= 188 < font().getlength(f"{cut[:-1]}ong")
        assert fitting("short", 200) == "short"

    def test_a_caption_stands_above_the_picture(self):
        picture = captioned(FRAME, "after 5 steps")
        strip = picture[: len(picture) - 100]
        assert (picture[len(strip) :] == 7).all()
        assert tuple(strip[-1, 0]) == BACKGROUND
        assert picture.tobytes() != captioned(FRAME, "after 6 steps").tobytes()


class Named(gymnasium.Env):
    """An environment that may tell the meanings of its actions."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2, start=3)

    def __init__(self, meanings=None):
        if meanings is not None:
            self.get_action_meanings = meanings


@pytest.mark.parametrize(
    ("meanings", "names"),
    [
        (None, ["3", "4"]),
        (lambda: ["LEFT", "RIGHT"], ["left", "right"]),
        (lambda: ["LEFT"], ["3", "4"]),
        (lambda: 1 / 0, ["3", "4"]),
    ],
)
def test_actions_have_the_names_that_the_environment_gives(meanings, names):
    assert bar_names(Named(meanings)) == names


def test_actions_without_number_have_no_names():
    env = Named()
    env.action_space = spaces.Box(-1, 1, (2,))
    assert bar_names(env) == []

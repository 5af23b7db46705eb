"""What maps show: the action taken, distinct cells, colour bars that mean something, numbers that can be read."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.quiver import Quiver

import rl_lab.envs  # noqa: F401  registers lab/*
from rl_lab.environments.layout import Layout, layout_of
from rl_lab.evaluation.exact import find_shortfall
from rl_lab.evaluation.grid_maps import (
    DPI,
    END_COLOUR,
    GOAL_COLOUR,
    MOST_NUMBERED,
    PIT_COLOUR,
    POINTS,
    WALL_COLOUR,
    kinds_of,
    limits_of,
    limits_of_errors,
    short,
)
from rl_lab.evaluation.pictures import write_picture
from rl_lab.evaluation.run_maps import VALUE_ERRORS, VALUES, RunMaps
from rl_lab.mdp.model import extract_model
from rl_lab.mdp.solve import policy_evaluation, solve
from rl_lab.policies import ValuePolicy

DISTINCT = 0.35  # the least distance of two colours that are told apart, in red, green and blue of 0..1
ANGLES = {"left": 180, "down": 270, "right": 0, "up": 90}
GAMMA = 0.9


def figures_of(env_id, q=None, layout=None, probabilities=None, **fields):
    """Draw the maps of a policy with action values [S, A], by default the optimal ones."""
    env = gymnasium.make(env_id, **fields)
    model, layout = extract_model(env), layout or layout_of(env)
    q = solve(model, GAMMA).q if q is None else q
    policy = ValuePolicy(lambda obs, state, first: (q[obs], ()), model.num_actions)
    if probabilities is None:
        probabilities = np.eye(model.num_actions)[q.argmax(axis=1)]
    shortfall = find_shortfall(policy, model, GAMMA, 4, probabilities)
    shown = {VALUES: policy_evaluation(model, probabilities, GAMMA), VALUE_ERRORS: shortfall.value_error}
    kinds = kinds_of(model, layout, shortfall.live)
    maps = RunMaps(shown, probabilities, shortfall.losing, kinds, layout)
    return maps.draw(VALUES), maps.draw(VALUE_ERRORS), (model, layout, q, shortfall)


def arrows_of(figure):
    """Return {(row, column): angles in degrees, counted from the right upwards} of the arrows of a map."""
    found = {}
    for quiver in figure.axes[0].findobj(Quiver):
        for (x, y), u, v in zip(quiver.get_offsets(), quiver.U, quiver.V, strict=True):
            angle = round(float(np.degrees(np.arctan2(v, u)))) % 360
            found.setdefault((round(float(y) + 0.1), round(float(x))), set()).add(angle)
    return found


def painted(figure, layout, state):
    """Return the colour that a cell is painted in, red, green and blue; None if it shows a value."""
    row, column = layout.cells[state]
    colour = np.asarray(figure.axes[0].images[1].get_array())[row, column]
    return tuple(colour[:3]) if colour[3] else None


def texts_of(figure, gid):
    return {
        (round(t.get_position()[1] - 0.1), round(t.get_position()[0])): t
        for t in figure.axes[0].texts
        if t.get_gid() == gid
    }


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


class TestArrows:
    @pytest.mark.parametrize("slippery", [False, True])
    def test_on_the_lake_are_the_actions_taken_and_not_where_the_ice_leads(self, slippery):
        figure, _, (_, layout, q, shortfall) = figures_of("FrozenLake-v1", is_slippery=slippery)
        names = ["left", "down", "right", "up"]  # actions 0 to 3, as Gymnasium documents them
        wanted = {
            tuple(layout.cells[s]): {ANGLES[names[q[s].argmax()]]} for s in np.flatnonzero(shortfall.live)
        }
        assert arrows_of(figure) == wanted
        assert len(wanted) == 11
        if slippery:
            assert arrows_of(figure)[0, 0] == {ANGLES["left"]}
        assert "action taken" in legend_of(figure)

    @pytest.mark.parametrize("action", range(4))
    def test_of_the_labs_grids_are_up_right_down_left(self, action):
        q = np.tile(np.eye(4)[action], (64, 1))
        figure, *_ = figures_of(
            "lab/GridWorld-v0", q, slip=0.4, map="S.......\n" + "........\n" * 6 + ".......G"
        )
        wanted = {ANGLES[("up", "right", "down", "left")[action]]}
        arrows = arrows_of(figure)
        assert len(arrows) == 63
        assert all(angles == wanted for angles in arrows.values())

    def test_show_all_actions_that_are_equally_likely(self):
        figure, *_ = figures_of("FrozenLake-v1", np.zeros((16, 4)), probabilities=np.full((16, 4), 0.25))
        assert set(map(frozenset, arrows_of(figure).values())) == {frozenset(ANGLES.values())}

    def test_of_likely_actions_leave_out_less_likely_ones(self):
        probabilities = np.tile([0.1, 0.4, 0.4, 0.1], (16, 1))
        figure, *_ = figures_of("FrozenLake-v1", np.zeros((16, 4)), probabilities=probabilities)
        assert set(map(frozenset, arrows_of(figure).values())) == {
            frozenset((ANGLES["down"], ANGLES["right"]))
        }

    def test_are_numbers_where_the_direction_is_not_known(self):
        env = gymnasium.make("FrozenLake-v1")
        unknown = Layout(layout_of(env).cells)
        figure, _, (_, layout, q, shortfall) = figures_of("FrozenLake-v1", layout=unknown)
        assert arrows_of(figure) == {}
        shown = {place: text.get_text() for place, text in texts_of(figure, "action").items()}
        assert shown == {tuple(layout.cells[s]): str(q[s].argmax()) for s in np.flatnonzero(shortfall.live)}
        assert "bold: number of the action taken" in legend_of(figure)

    def test_staying_is_a_dot(self):
        q = np.tile(np.eye(9)[8], (70, 1))
        figure, *_ = figures_of("lab/WindyGrid-v0", q, moves=9)
        assert arrows_of(figure) == {}
        assert "action taken: stay" in legend_of(figure)


class TestCells:
    def test_goal_pit_and_wall_are_told_apart(self):
        colours = [to_rgb(c) for c in (GOAL_COLOUR, PIT_COLOUR, WALL_COLOUR)]
        for k, one in enumerate(colours):
            for other in colours[k + 1 :]:
                assert np.linalg.norm(np.subtract(one, other)) > DISTINCT
        assert np.linalg.norm(np.subtract(to_rgb(END_COLOUR), to_rgb(PIT_COLOUR))) > DISTINCT

    def test_of_a_lake_are_painted_by_what_they_are(self):
        for figure in figures_of("FrozenLake-v1")[:2]:
            layout = layout_of(gymnasium.make("FrozenLake-v1"))
            assert painted(figure, layout, 15) == pytest.approx(to_rgb(GOAL_COLOUR))
            for hole in (5, 7, 11, 12):
                assert painted(figure, layout, hole) == pytest.approx(to_rgb(PIT_COLOUR))
            assert painted(figure, layout, 0) is None
            assert {(0, 0)} == set(texts_of(figure, "start"))
            assert {"goal", "pit or cliff", "start"} <= set(legend_of(figure))

    def test_of_a_cliff_that_nobody_stands_on_hold_neither_arrow_nor_number(self):
        for env_id in ("lab/Cliff-v0", "CliffWalking-v1"):
            figure, _, (_, layout, *_) = figures_of(env_id)
            for state in range(37, 47):
                assert painted(figure, layout, state) == pytest.approx(to_rgb(PIT_COLOUR))
                assert tuple(layout.cells[state]) not in arrows_of(figure)
                assert tuple(layout.cells[state]) not in texts_of(figure, "number")

    def test_walls_are_walls_whether_they_are_states_or_not(self):
        maze, _, (_, layout, *_) = figures_of("lab/DynaMaze-v0")
        assert painted(maze, layout, 7) == pytest.approx(to_rgb(WALL_COLOUR))
        world, *_ = figures_of("lab/GridWorld-v0")
        assert world.axes[0].get_facecolor()[:3] == pytest.approx(to_rgb(WALL_COLOUR))
        for figure in (maze, world):
            assert legend_of(figure).count("wall") == 1


class TestColourBars:
    def test_of_errors_begin_at_zero_and_end_at_the_largest(self):
        _, figure, (_, _, _, shortfall) = figures_of(
            "FrozenLake-v1", np.random.default_rng(0).random((16, 4))
        )
        assert figure.axes[0].images[0].get_clim() == (0.0, pytest.approx(shortfall.value_error.max()))

    def test_without_any_error_are_not_below_zero(self):
        _, figure, _ = figures_of("FrozenLake-v1")
        assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)
        assert figure.axes[1].get_ylim() == (0.0, 1.0)

    @pytest.mark.parametrize(
        ("values", "limits"),
        [
            ([0.0, 0.0], (0, 1)),
            ([3.0, 3.0], (0, 3)),
            ([-2.0], (-2, 0)),
            ([-1.0, 4.0], (-1, 4)),
            ([np.nan], (0, 1)),
        ],
    )
    def test_of_constants_reach_to_zero(self, values, limits):
        assert limits_of(np.array(values)) == limits

    @pytest.mark.parametrize(
        ("errors", "limits"), [([0.0, 3e-14], (0, 1)), ([0.0, 0.2], (0, 0.2)), ([np.nan], (0, 1))]
    )
    def test_of_errors_leave_rounding_out(self, errors, limits):
        assert limits_of_errors(np.array(errors)) == limits


class TestNumbers:
    @pytest.mark.parametrize("side", [2, 4, MOST_NUMBERED])
    def test_fit_into_their_cells_at_a_size_that_can_be_read(self, side):
        text = "\n".join(["S" + "." * (side - 1), *["." * side] * (side - 2), "." * (side - 1) + "G"])
        figure, *_ = figures_of("lab/GridWorld-v0", map=text, step_reward=-123.4)
        figure.draw_without_rendering()
        axes = figure.axes[0]
        cell = axes.get_window_extent().width / side
        numbers = texts_of(figure, "number")
        assert len(numbers) == side * side - 1
        for number in numbers.values():
            assert number.get_fontsize() == POINTS >= 9
            assert number.get_window_extent().width < cell
        assert figure.get_size_inches()[0] * 96 <= 730  # what a page of 800 pixels has room for

    def test_are_left_out_where_there_is_no_room_and_the_picture_says_so(self):
        text = "S" + "." * MOST_NUMBERED + "G"
        figure, *_ = figures_of("lab/GridWorld-v0", map=text)
        assert texts_of(figure, "number") == {}
        assert len(arrows_of(figure)) == MOST_NUMBERED + 1
        assert f"beyond {MOST_NUMBERED} rows or columns" in figure.legends[0].get_title().get_text()

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.0, "0"), (-1e-12, "0"), (0.542, "0.54"), (-0.004, "-4e-3"), (9.999, "10.0"), (-99.97, "-100"),
         (-13.04, "-13.0"), (12345.6, "12346"), (1e7, "1e7"), (3e-8, "3e-8")],
    )  # fmt: skip
    def test_are_short(self, value, text):
        assert short(value) == text

    def test_the_file_tells_a_browser_how_large_it_is_meant(self, tmp_path):
        from PIL import Image

        figure, *_ = figures_of("FrozenLake-v1")
        write_picture(tmp_path / "a.png", figure)
        with Image.open(tmp_path / "a.png") as picture:
            assert picture.info["dpi"][0] == pytest.approx(DPI, abs=0.1)
            assert picture.width == pytest.approx(DPI * figure.get_size_inches()[0], abs=2)

"""Maps of several runs: kept, read back, and drawn with one scale."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.environments.layout import Layout
from rl_lab.evaluation.grid_maps import Kinds
from rl_lab.evaluation.run_maps import FILE, REGRETS, VALUE_ERRORS, VALUES, RunMaps, read_maps, shared_limits

LIVE = np.array([True, True, True, False])  # the last state is the end of an episode
NONE = np.zeros(4, bool)
KINDS = Kinds(LIVE, LIVE | ~LIVE, np.eye(4, dtype=bool)[0], ~LIVE, NONE, NONE)
GRID = Layout(np.argwhere(np.ones((2, 2), bool)), None, np.array(["S", ".", ".", "G"]))


def maps_of(values, regrets, layout=GRID, **more):
    shown = {VALUES: np.array(values, float), REGRETS: np.array(regrets, float), **more}
    return RunMaps(shown, np.eye(2)[[0, 1, 0, 0]], np.array([False, True, False, False]), KINDS, layout, 1)


GOOD = maps_of([1.0, 2.0, 3.0, 99.0], [0.0, 0.5, 0.0, 99.0])
POOR = maps_of([-4.0, 0.0, 1.0, 99.0], [5.0, 2.5, 2.0, 99.0])


def test_limits_cover_all_agents_and_leave_out_the_ends_of_episodes():
    assert GOOD.limits() == {VALUES: (1.0, 3.0), REGRETS: (0.0, 0.5)}
    assert shared_limits([GOOD, POOR]) == {VALUES: (-4.0, 3.0), REGRETS: (0.0, 5.0)}
    assert shared_limits([POOR, GOOD]) == shared_limits([GOOD, POOR])
    perfect = maps_of([1, 2, 3, 0], [0, 0, 0, 0])
    assert perfect.limits()[REGRETS] == (0.0, 1.0)  # there is nothing to tell apart
    assert shared_limits([perfect, GOOD])[REGRETS] == (0.0, 0.5)
    errors = {VALUE_ERRORS: np.array([7.0, 1.0, 1.0, 99.0])}
    assert shared_limits([GOOD, maps_of([0, 0, 0, 0], [0, 0, 0, 0], **errors)])[VALUE_ERRORS] == (0.0, 7.0)


@pytest.mark.parametrize("name", [VALUES, REGRETS])
def test_equal_numbers_have_equal_colours_in_shared_limits(name):
    limits = shared_limits([GOOD, POOR])[name]
    scales = [maps.draw(name, limits).axes[0].images[0].get_clim() for maps in (GOOD, POOR)]
    assert scales == [limits, limits]
    assert GOOD.draw(name).axes[0].images[0].get_clim() == GOOD.limits()[name]


@pytest.mark.parametrize("name", [VALUES, REGRETS])
def test_states_without_a_grid_share_the_axis(name):
    flat = maps_of([1.0, 2.0, 3.0, 99.0], [0.0, 0.5, 0.0, 99.0], layout=None)
    axes = flat.draw(name, (-10.0, 10.0) if name == VALUES else (0.0, 10.0)).axes[0]
    low, high = axes.get_ylim()
    assert np.isnan(axes.lines[0].get_ydata()).tolist() == (~LIVE).tolist()  # ends of episodes have no value
    assert (low, high) == ((-11.0, 11.0) if name == VALUES else (0.0, 10.5))


@pytest.mark.parametrize("layout", [None, GRID, Layout(GRID.cells, np.ones((2, 2)), None)])
def test_what_is_written_is_read_back(tmp_path, layout):
    written = maps_of([1, 2, 3, 4], [0, 1, 2, 3], layout)
    written.write(tmp_path)
    found = read_maps(tmp_path)
    assert found.limits() == written.limits()
    assert found.first_action == 1
    np.testing.assert_array_equal(found.probabilities, written.probabilities)
    np.testing.assert_array_equal(found.losing, written.losing)
    assert (found.layout is None) == (layout is None)
    if layout is not None:
        assert (found.layout.moves is None, found.layout.letters is None) == (
            layout.moves is None, layout.letters is None,
        )  # fmt: skip
    assert set(found.draw(VALUES).axes[0].get_title().split()) == set(
        written.draw(VALUES).axes[0].get_title().split()
    )


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"none of it"])
def test_what_is_missing_or_damaged_is_no_map(tmp_path, content):
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    assert read_maps(tmp_path) is None


def test_objects_that_would_run_code_are_not_read(tmp_path):
    GOOD.write(tmp_path)
    with np.load(tmp_path / FILE) as file:
        arrays = dict(file)
    np.savez(tmp_path / FILE, **arrays | {"losing": np.array([print], object)})
    assert read_maps(tmp_path) is None

"""Layouts: where states lie, what their cells are, and where actions aim; checked against what environments play."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text import FrozenLakeEnv

import rl_lab.envs  # noqa: F401  registers lab/*
from rl_lab.environments.layout import drawn_grid_of, layout_of
from rl_lab.mdp.model import extract_model

GRIDS = {
    "FrozenLake-v1": {"is_slippery": False},
    "CliffWalking-v1": {},
    "lab/GridWorld-v0": {},
    "lab/Cliff-v0": {},
    "lab/SuttonGrid4x4-v0": {},
    "lab/DynaMaze-v0": {},
    "lab/DeepSea-v0": {},
}


@pytest.mark.parametrize(("env_id", "fields"), GRIDS.items())
def test_actions_aim_where_deterministic_environments_go(env_id, fields):
    env = gymnasium.make(env_id, **fields)
    layout, model = layout_of(env), extract_model(env)
    moves = layout.moves_of(model.num_actions).reshape(-1, 2)
    state = model.row // model.num_actions
    moved = layout.cells[model.successor] - layout.cells[state]
    aimed_at = np.clip(
        layout.cells[state] + moves[model.row], 0, layout.cells.max(axis=0)
    )  # within the border
    checked = (np.abs(moved).sum(axis=1) > 0) & (
        model.reward > -100
    )  # not blocked, nor thrown back off a cliff
    assert checked.sum() > 10
    np.testing.assert_array_equal((aimed_at - layout.cells[state])[checked], moved[checked])


@pytest.mark.parametrize("slippery", [False, True])
def test_lakes_are_read_as_they_are_drawn(slippery):
    layout = layout_of(gymnasium.make("FrozenLake-v1", is_slippery=slippery))
    assert "".join(layout.letters) == "S....P.P...PP..G"
    assert layout.moves.tolist() == [[0, -1], [1, 0], [0, 1], [-1, 0]]  # left, down, right, up


def test_cliffs_are_read_as_they_are_drawn():
    ours, toy = layout_of(gymnasium.make("lab/Cliff-v0")), layout_of(gymnasium.make("CliffWalking-v1"))
    assert "".join(ours.letters) == "".join(toy.letters) == "." * 36 + "SPPPPPPPPPPG"
    np.testing.assert_array_equal(ours.moves, toy.moves)


@pytest.mark.parametrize(("moves", "shape"), [(4, (4, 2)), (8, (8, 2)), (9, (9, 2))])
def test_wind_is_no_part_of_the_aim(moves, shape):
    layout = layout_of(gymnasium.make("lab/WindyGrid-v0", moves=moves))
    assert layout.moves.shape == shape
    assert layout.moves[1].tolist() == [0, 1]
    assert moves < 9 or layout.moves[8].tolist() == [0, 0]


def test_actions_of_a_subclass_or_a_walk_aim_nowhere_that_is_known():
    lake = layout_of(type("Mirrored", (FrozenLakeEnv,), {})())
    walk = layout_of(gymnasium.make("lab/RandomWalk-v0"))
    for layout, actions in ((lake, 4), (walk, 1)):
        assert layout.moves is None
        assert np.isnan(layout.moves_of(actions)).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"moves": np.zeros((3, 2))},
        {"moves": "up"},
        {"moves": np.zeros((5, 4, 2))},
        {"letters": np.array(["G"])},
    ],
)
def test_attributes_of_these_names_that_fit_nothing_are_left_alone(wrong):
    cells = np.argwhere(np.ones((2, 3), bool))
    space = gymnasium.spaces.Discrete(6)
    env = type("Foreign", (gymnasium.Env,), {"observation_space": space, "cells": cells} | wrong)()
    layout = layout_of(env)
    assert layout.letters is None
    assert np.isnan(layout.moves_of(4)).all()


def test_states_that_share_a_cell_form_no_grid():
    cells = np.zeros((6, 2), np.int64)
    env = type(
        "Foreign", (gymnasium.Env,), {"observation_space": gymnasium.spaces.Discrete(6), "cells": cells}
    )()
    assert layout_of(env) is None


WALLED = "#####\n#S..#\n#..G#\n#####"
FAR = (
    ["F" * 24] * 20 + ["F" * 20 + "SFFF"] + ["F" * 24] * 2 + ["F" * 23 + "G"]
)  # cells of 21 pixels, 504 of 512
DRAWN = {
    "walls at the border": ("lab/GridWorld-v0", {"map": WALLED}, (4, 5)),
    "a lake that fills its picture": ("FrozenLake-v1", {"is_slippery": False}, (4, 4)),
    "a lake that doesn't": ("FrozenLake-v1", {"is_slippery": False, "desc": FAR}, (24, 24)),
    "a cliff": ("CliffWalking-v1", {}, (4, 12)),
    "a sea with a floor": ("lab/DeepSea-v0", {"size": 5}, (6, 5)),
}


@pytest.mark.parametrize("name", DRAWN)
def test_what_changes_in_the_picture_lies_in_the_cells_that_were_left_and_entered(name, monkeypatch):
    """Dots of the trail fade in the cells before."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env_id, fields, shape = DRAWN[name]
    env = gymnasium.make(env_id, render_mode="rgb_array", **fields)
    layout = layout_of(env)
    drawn = drawn_grid_of(env, layout)
    assert (drawn.rows, drawn.columns) == shape
    env.reset(seed=0)
    before, visited = env.render(), [_cell(env, layout)]
    height, width = before.shape[:2]
    left, top, w, h = np.array(drawn.area) * (width, height, width, height)
    for action in {"CliffWalking-v1": (0, 1, 0), "lab/DeepSea-v0": (0, 1, 1)}.get(env_id, (1, 1, 2, 1)):
        env.step(action)
        after = env.render()
        rows, columns = np.nonzero((before != after).any(axis=2))
        found = zip(
            (rows + 0.5 - top) * drawn.rows / h, (columns + 0.5 - left) * drawn.columns / w, strict=True
        )
        changed = {(int(row), int(column)) for row, column in found}
        before = after
        if (cell := _cell(env, layout)) != visited[-1]:
            visited.append(cell)
            assert set(visited[-2:]) <= changed <= set(visited)
    assert len(visited) > 2
    env.close()


def _cell(env: gymnasium.Env, layout) -> tuple[int, int]:
    base = env.unwrapped
    state = int(base.s) if hasattr(base, "s") else base._describe_moment().state
    return tuple(layout.cells[state].tolist())

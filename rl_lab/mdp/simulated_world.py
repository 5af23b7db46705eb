"""A model as a compiled loop plays it: drawing beginnings and outcomes, and ending episodes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rl_lab.mdp.draws import draw
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.outcome_tables import draw_outcome, outcome_tables
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"

# The draws of a step, by their place in it.
EXPLORE, AMONG, OUTCOME, COIN, BEGINNING = range(5)
DRAWS = 8  # of a step; the others are spare
PLANNING_DRAWS = 4  # of an imagined step; one is spare


class World(NamedTuple):
    """A model and its time limit, in arrays that compiled loops take; see `OutcomeTables`.

    States are those of the model, cells the rows of the learner's table that they are shown as.
    """

    first: Array  # uint32 [S * A + 1]
    width: Array  # float64 [S * A + 1]
    share: Array  # float64 [K]
    alias: Array  # uint32 [K]
    successor: Array  # uint32 [K]
    cell: Array  # uint32 [K]: what the successor is shown as
    reward: Array  # float64 [K]
    ends: Array  # bool [K]
    legal: (
        Array  # bool [C, A]: legal actions in the states that a cell shows; [0, A] if all actions are legal
    )
    limit: int  # steps after which an episode is cut
    num_actions: int


NO_LIMIT = np.iinfo(np.int64).max


def world_of(model: TabularModel, time_limit: int | None, cells: Array, num_cells: int) -> World:
    """Return a model as compiled loops take it.

    Args:
        time_limit: steps after which an episode is truncated; None for never.
        cells: the row of the learner's table that shows each state, integers [S].
        num_cells: rows of that table, C.

    Raises:
        ValueError: the model is too large for indices of 32 bits, or states that look alike have different legal
            actions.
    """
    tables = outcome_tables(model)
    return World(
        first=tables.first,
        width=tables.width,
        share=tables.share,
        alias=tables.alias,
        successor=tables.successor,
        cell=cells[tables.successor].astype(np.uint32),
        reward=tables.reward,
        ends=tables.ends,
        legal=_legal_in(model, cells, num_cells),
        limit=NO_LIMIT if time_limit is None else time_limit,
        num_actions=model.num_actions,
    )


def _legal_in(model: TabularModel, cells: Array, num_cells: int) -> Array:
    """Return the legal actions of each cell, bool [C, A]; [0, A] if all are legal.

    Raises:
        ValueError: states with the same cell have different legal actions.
    """
    if model.available.all():
        return np.zeros((0, model.num_actions), bool)
    legal = np.ones((num_cells, model.num_actions), bool)
    legal[cells] = model.available
    differ = (legal[cells] != model.available).any(axis=1)
    if differ.any():
        state = int(np.argmax(differ))
        raise ValueError(f"state {state} has other legal actions than a state that looks the same")
    return legal


def draw_at(stream, step, place):
    """Return the number in [0, 1) at a place of a step."""
    position = np.uint64(step) * np.uint64(DRAWS) + np.uint64(place)
    return draw(stream[0], stream[1], position)


def planning_draw(stream, place, which):
    """Return one of the three numbers in [0, 1) that an imagined step takes; `place` counts these steps."""
    position = np.uint64(place) * np.uint64(PLANNING_DRAWS) + np.uint64(which)
    return draw(stream[2], stream[3], position)


def begin(world, stream, step):
    """Return the column of the state in which an episode begins with a step."""
    row = world.first.shape[0] - 1
    return draw_outcome(
        world.first, world.width, world.share, world.alias, row, draw_at(stream, step, BEGINNING)
    )


def follow(world, stream, step, row):
    """Return the column of the outcome of a row, state * A + action, at a step."""
    return draw_outcome(
        world.first, world.width, world.share, world.alias, row, draw_at(stream, step, OUTCOME)
    )

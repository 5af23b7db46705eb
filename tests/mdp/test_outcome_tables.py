"""Outcomes drawn in constant time come with the model's probabilities, exactly."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from garnets import garnet

from rl_lab.mdp import outcome_tables as tables_module
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.outcome_tables import draw_outcome, outcome_tables


def chances(tables, row):
    """The probability of each column of a row, by measuring the numbers in [0, 1) that lead to it."""
    first, width = int(tables.first[row]), int(tables.width[row])
    found = {}
    for column in range(first, first + width):
        share = Fraction(float(tables.share[column]))
        for outcome, part in ((column, share), (int(tables.alias[column]), 1 - share)):
            found[outcome] = found.get(outcome, 0) + part / width
    return found


def two_states(probabilities, initial=(1.0, 0.0), available=None):
    """State 0 has one action with these outcomes in a row; all lead to state 1 and pay their number."""
    outcomes = [(0, 0, p, 1, float(k), False) for k, p in enumerate(probabilities)]
    return TabularModel.from_outcomes(
        [*outcomes, (1, 0, 1.0, 1, 0.0, True), (0, 1, 1.0, 0, -1.0, False), (1, 1, 1.0, 1, 0.0, True)],
        2, 2, initial, available,
    )  # fmt: skip


@pytest.mark.parametrize(
    "probabilities", [(1.0,), (0.5, 0.5), (0.1, 0.2, 0.7), (0.8, 0.1, 0.1), (0.25, 0.05, 0.3, 0.4)]
)
def test_every_outcome_has_its_probability(probabilities):
    tables = outcome_tables(two_states(probabilities))
    found = chances(tables, 0)
    first = int(tables.first[0])
    for k, probability in enumerate(probabilities):
        assert float(found[first + k]) == pytest.approx(probability, abs=1e-15)
        assert (tables.successor[first + k], tables.reward[first + k]) == (1, k)


def test_outcomes_of_probability_0_and_illegal_actions_are_left_out():
    available = np.array([[True, False], [True, True]])
    tables = outcome_tables(two_states((0.0, 0.4, 0.0, 0.6), available=available))
    assert tables.width.tolist() == [2, 0, 1, 1, 1]
    first = int(tables.first[0])
    assert tables.reward[first : first + 2].tolist() == [1.0, 3.0]


def test_the_row_after_the_last_holds_the_states_in_which_episodes_begin():
    tables = outcome_tables(two_states((1.0,), initial=(0.3, 0.7)))
    found = chances(tables, 4)
    begun = {int(tables.successor[k]): float(part) for k, part in found.items()}
    assert begun == pytest.approx({0: 0.3, 1: 0.7}, abs=1e-15)


def test_random_models_keep_their_probabilities():
    model = garnet(3, 12, 3, 5, ending=0.2)
    tables = outcome_tables(model)
    for row in np.flatnonzero(model.available.ravel()):
        p = model.probability[model.indptr[row] : model.indptr[row + 1]]
        found = chances(tables, row)
        assert [float(found[k]) for k in sorted(found)] == pytest.approx(p.tolist(), abs=1e-14)


def test_compiled_tables_are_those_of_plain_python(monkeypatch):
    class Compiled:
        """Stands for the compiled loop, so that nothing is compiled for this test."""

        def __call__(self, *arguments):
            self.called = True
            tables_module.fill_aliases(*arguments)

    compiled = Compiled()
    monkeypatch.setattr(tables_module, "COMPILED_FROM", 1)
    monkeypatch.setattr(tables_module, "_compiled", lambda: compiled)
    outcome_tables(garnet(4, 5, 2, 3))
    assert compiled.called


def test_a_number_chooses_the_column_or_its_alias():
    tables = outcome_tables(two_states((0.25, 0.75)))
    table = (tables.first, tables.width, tables.share, tables.alias)
    first = int(tables.first[0])
    # columns of 1/2 each; the first gives its upper half to the second
    chosen = [int(draw_outcome(*table, 0, u)) - first for u in (0.0, 0.2499, 0.2501, 0.5, 0.9999)]
    assert chosen == [0, 0, 1, 1, 1]

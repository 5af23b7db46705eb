"""Pictures of a diagnosis show its numbers."""

from __future__ import annotations

import numpy as np
import pytest

from diagnosed import two_states
from rl_lab.diagnosis.calibration import Calibration, ReliabilityBin
from rl_lab.diagnosis.loss_bias import find_loss_bias
from rl_lab.diagnosis.pictures import draw_calibration, draw_loss, draw_split, draw_visits
from rl_lab.diagnosis.split import RegretSplit
from rl_lab.diagnosis.visited import Visits
from rl_lab.environments.layout import Layout
from rl_lab.mdp.td_fixed_point import TDRule

SPLIT = RegretSplit(5.0, 4.0, 3.5, 1.0, 4.0, states=4, visited_states=3, function_class="a table")


def marked(axes, gid):
    return [artist for artist in axes.get_children() if artist.get_gid() == gid]


def test_bars_lead_from_the_optimum_down_to_the_policy():
    axes = draw_split(SPLIT).axes[0]
    spans = [sorted(bar.get_bbox().intervaly) for name in SPLIT.parts for bar in marked(axes, name)]
    assert np.allclose(spans, [[4.0, 5.0], [3.5, 4.0], [1.0, 3.5]])
    (ends,) = marked(axes, "returns")
    assert ends.get_ydata().tolist() == [5.0, 1.0]
    assert [label.get_text() for label in axes.get_xticklabels()][0::4] == ["optimum", "policy"]


@pytest.mark.parametrize("layout", [None, Layout(np.array([[0, 0], [0, 1]]))])
def test_states_never_visited_are_marked(layout):
    visits = Visits(np.array([9, 0]), np.zeros((2, 2), int), 9)
    figure = draw_visits(visits, two_states(), layout)
    legends = [
        text.get_text()
        for legend in (*figure.legends, figure.axes[0].get_legend())
        if legend
        for text in legend.get_texts()
    ]
    assert "never visited" in legends
    if layout is None:
        assert figure.axes[0].lines[0].get_ydata() == pytest.approx([1.0, 0.0])


def test_fixed_points_lie_beside_the_line_without_bias():
    model = two_states()
    rule = TDRule("huber", 0.9, n_steps=3)
    found = find_loss_bias(
        model, np.full((2, 2), 0.5), rule, eval_gamma=0.9, live=np.ones(2, bool), predicted=None
    )
    (states,) = marked(draw_loss(found, model).axes[0], "states")
    assert states.get_xydata() == pytest.approx(np.array([[2.3553, 3.3651], [2.9078, 3.8914]]), abs=1e-3)


def test_the_reliability_curve_has_a_point_for_each_bin():
    bins = ReliabilityBin(1.0, 2.0, 5), ReliabilityBin(3.0, 2.5, 5)
    found = Calibration(1, 10, 0.9, True, 10, None, None, 0.25, 0.5, None, bins, None, None, None, None, None)
    axes = draw_calibration(found).axes[0]
    (curve,) = marked(axes, "bins")
    assert curve.get_xydata().tolist() == [[1.0, 2.0], [3.0, 2.5]]
    assert axes.get_title() == "bias 0.25, root mean square 0.5"

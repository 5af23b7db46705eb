"""Rows of results: what they hold, and which way their ratio points."""

from __future__ import annotations

from rl_lab.benchmarks.work import row, timed


def test_a_ratio_above_1_means_that_ours_needs_less(capsys):
    found = row("a sum", "a peer", "s", ours=2.0, theirs=5.0, k=1)
    assert found == {
        "work": "a sum", "peer": "a peer", "unit": "s", "ours": 2.0, "theirs": 5.0, "ratio": 2.5, "k": 1,
    }  # fmt: skip
    assert capsys.readouterr().out == "a sum: ours 2 s, a peer 5 s; ratio 2.50\n"


def test_what_is_timed_is_done_once():
    done = []
    assert timed(lambda: done.append(1)) > 0.0
    assert done == [1]

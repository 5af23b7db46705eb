"""What a person sees of a run: plain lines without a terminal, and a bar on one."""

from __future__ import annotations

import io
import sys

import pytest

from rl_lab.runs import progress
from rl_lab.runs.progress import Bar, Lines, NullProgress, make_progress


@pytest.fixture
def time(monkeypatch):
    """The seconds that the clock shows, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_for_each_tenth_of_the_budget(time):
    out = io.StringIO()
    lines = Lines(100, out=out)
    for step in range(5, 101, 5):
        time[0] = 100 + step / 10
        lines.show({"env_steps": step, "episode_return_mean": 1 / 3, "loss": None, "other": 2})
    told = out.getvalue().splitlines()
    assert len(told) == 10
    assert told[0] == "5/100 steps, 10 steps/s, 10 s left, return 0.3333"
    assert told[-1] == "95/100 steps, 10 steps/s, 0 s left, return 0.3333"
    lines.finish(100)
    assert out.getvalue().splitlines()[10:] == ["100/100 steps, 10 steps/s, done in 10 s, return 0.3333"]


def test_a_line_shows_the_last_evaluation_beside_the_exploring_return(time):
    out = io.StringIO()
    lines = Lines(100, out=out)
    lines.evaluated({"eval_return_mean": 0.5})
    lines.evaluated({"eval_return_mean": None})
    lines.evaluated({"eval_return_mean": 12.5})
    time[0] = 101.0
    lines.show({"env_steps": 10, "epsilon": 0.5, "episode_return_mean": 3.0})
    assert out.getvalue() == "10/100 steps, 10 steps/s, 9 s left, return 3, eval return 12.5, epsilon 0.5\n"


def test_a_budget_that_was_rounded_up_ends_at_a_hundred_per_cent(time):
    out = io.StringIO()
    lines = Lines(100, out=out)
    lines.aim(128)
    time[0] = 101.0
    lines.show({"env_steps": 100})
    lines.show({"env_steps": 128})
    lines.finish(128)
    assert out.getvalue().splitlines() == [
        "100/128 steps, 100 steps/s, 0 s left",
        "128/128 steps, 128 steps/s, done in 1 s",
    ]


def test_time_left_is_never_negative(time):
    pace = progress.Pace()
    assert pace.left(0, 100) is None
    time[0] = 102.0
    assert pace.left(50, 100) == 2.0
    assert pace.left(128, 100) == 0.0


def test_what_takes_no_steps_has_no_last_line():
    out = io.StringIO()
    Lines(100, out=out).finish(0)
    assert out.getvalue() == ""


def test_a_resumed_run_is_as_fast_as_it_is_since(time):
    out = io.StringIO()
    lines = Lines(100, at=50, out=out)
    time[0] = 102.0
    lines.show({"env_steps": 60})
    assert out.getvalue() == "60/100 steps, 5 steps/s, 8 s left\n"


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        ({"training": 1.0, "evaluation": 8.5, "other": 0.5}, ", time: 85 % evaluation"),
        ({"training": 3.0, "evaluation": 1.0, "other": 0.0}, ", time: 75 % training"),
        ({"training": 9.5, "evaluation": 0.5, "other": 0.0}, ""),
        ({"training": 0.0, "evaluation": 0.0, "other": 0.0}, ""),
        ({"learning": 95.0, "environment": 4.0, "acting": 0.6, "other": 0.4}, ", time: 95 % learning"),
        ({"learning": 2.0, "acting": 3.0, "other": 5.0}, ", time: 30 % acting"),
    ],
)
def test_a_line_tells_what_most_of_the_time_is_spent_on_unless_it_is_training(time, spent, told):
    out = io.StringIO()
    lines = Lines(100, out=out)
    time[0] = 110.0
    lines.show({"env_steps": 10}, spent)
    assert out.getvalue() == f"10/100 steps, 1 steps/s, 90 s left{told}\n"


def test_the_return_of_the_episodes_that_ended_last_stays(time):
    out = io.StringIO()
    lines = Lines(100, out=out)
    lines.show({"env_steps": 10, "episode_return_mean": 0.0, "loss": 0.5})
    time[0] = 101.0
    lines.show({"env_steps": 20})
    assert out.getvalue().splitlines()[1] == "20/100 steps, 20 steps/s, 4 s left, return 0"


ROW = {"env_steps": 123_456, "episode_return_mean": -123.456, "epsilon": 0.123456, "loss": 0.0123456}
SPENT = {
    "learning": 61.0,
    "acting": 20.0,
    "environment": 10.0,
    "evaluation": 5.0,
    "checkpoints": 3.0,
    "other": 1.0,
}


@pytest.mark.parametrize(
    ("columns", "figures"),
    [
        (None, "return -123.5, eval return -99.99"),
        ("80", "return -123.5, eval return -99.99"),
        ("110", "return -123.5, eval return -99.99, time: 61 % learning"),
        ("120", "return -123.5, eval return -99.99, time: 61 % learning, epsilon 0.1235"),
        ("300", "return -123.5, eval return -99.99, time: 61 % learning, epsilon 0.1235, loss 0.01235"),
        ("50", ""),
        ("wide", "return -123.5, eval return -99.99"),
    ],
)
def test_a_line_has_as_many_figures_as_it_has_room_for(time, monkeypatch, columns, figures):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    out = io.StringIO()
    lines = Lines(500_000, out=out)
    lines.evaluated({"eval_return_mean": -99.99})
    time[0] = 223.456
    lines.show(ROW, SPENT)
    head = "123456/500000 steps, 1000 steps/s, 377 s left"
    assert out.getvalue() == ", ".join([head, figures] if figures else [head]) + "\n"


def test_lines_tell_what_goes_on_unless_it_comes_again_and_again():
    out = io.StringIO()
    lines = Lines(100, out=out)
    for what in ("evaluation", "", "filming", ""):
        lines.doing(what)
    assert out.getvalue() == "filming\n"


def test_a_bar_follows_the_rows(capsys):
    bar = Bar(100, at=20)
    bar.show({"env_steps": 60, "epsilon": 0.25})
    bar.note("saved")
    bar.close()
    err = capsys.readouterr().err
    assert "60.0/100" in err
    assert "epsilon 0.25" in err
    assert "saved" in err


def test_a_bar_ends_at_a_hundred_per_cent_of_a_budget_that_was_rounded_up(capsys):
    bar = Bar(100)
    bar.aim(128)
    bar.show({"env_steps": 100, "episode_return_mean": 1.0})
    bar.evaluated({"eval_return_mean": 2.0})
    bar.finish(128)
    bar.close()
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("100%|")
    assert "128/128" in last
    assert "return 1, eval 2" in last


def test_a_bar_goes_beyond_its_end_with_its_total(capsys):
    bar = Bar(100)
    bar.show({"env_steps": 130})
    bar.close()
    assert "100%|" in capsys.readouterr().err.split("\r")[-1]


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bar), (False, Lines)])
def test_a_terminal_gets_a_bar(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    shown = make_progress(10)
    assert isinstance(shown, kind)
    shown.close()


def test_null_says_nothing(capsys):
    shown = NullProgress()
    shown.show({"env_steps": 1})
    shown.doing("evaluation")
    shown.aim(2)
    shown.evaluated({"eval_return_mean": 1.0})
    shown.finish(2)
    shown.close()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["warning: the film failed", "the film failed"])
def test_null_turns_a_line_into_a_warning_of_pythons(line):
    with pytest.warns(UserWarning, match="^the film failed$"):
        NullProgress().note(line)


def test_compiling_is_told_and_left_out_of_the_time_left(time):
    out = io.StringIO()
    lines = Lines(100, out=out)
    lines.doing("compiling the simulation")
    time[0] = 159.0
    lines.doing("")
    lines.doing("")
    time[0] = 160.0
    lines.show({"env_steps": 10})
    assert out.getvalue().splitlines() == [
        "compiling the simulation",
        "compiled in 59 s",
        "10/100 steps, 10 steps/s, 9 s left",
    ]


def test_the_bar_counts_from_the_end_of_compiling(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar(100)
    now = [bar._bar.start_t]
    bar._bar._time = lambda: now[0]
    bar.doing("compiling the simulation")
    now[0] += 59.0
    bar.doing("")
    now[0] += 1.0
    assert bar._bar.format_dict["elapsed"] == pytest.approx(1.0)
    bar.close()


def test_of_a_solver_sweeps_are_told_and_no_steps(time, monkeypatch):
    out = io.StringIO()
    lines = Lines(50_000, out=out)
    for sweep in (1, 2, 9, 10, 11, 200):
        lines.show({"env_steps": 0, "sweep": sweep, "bound": 1 / sweep})
    lines.finish(0)
    assert out.getvalue().splitlines() == [
        "sweep 1, bound 1",
        "sweep 10, bound 0.1",
        "sweep 200, bound 0.005",
    ]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar(50_000)
    bar.show({"env_steps": 0, "sweep": 7, "bound": 0.5})
    assert str(bar._bar).startswith("sweep 7 [00:0")
    assert "50" not in str(bar._bar)
    bar.close()

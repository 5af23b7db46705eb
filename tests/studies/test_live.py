"""What a person sees of a study while it goes on."""

from __future__ import annotations

import io
import json
import os
import sys
import types

import pytest
from rich.console import Console

from rl_lab.studies import live
from rl_lab.studies.live import LiveBoard, NoBoard, PlainBoard, RunState, line_on, live_table, make_board
from rl_lab.studies.reports import Reports, read_report
from rl_lab.studies.study import run_study
from studies_made import QUIET, small_study

STATES = {"a": "waiting", "b": "done", "c": "waiting"}


def on_terminal(board_of, height=40):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=height, color_system=None)
    return board_of(console), out


class TestTable:
    def test_has_a_row_for_each_run_those_under_way_first(self):
        runs = [RunState("one", "running", 450, 1000, 0.25, 0.5, 200.0), RunState("two", "waiting")]
        console = Console(file=(out := io.StringIO()), width=90)
        console.print(live_table(runs, 10))
        lines = out.getvalue().splitlines()
        cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
        assert ["run", "state", "steps", "return", "eval return", "time left"] in cells
        assert ["one", "running", "450/1000", "0.25", "0.5", "3 min"] in cells
        assert ["two", "waiting", "", "", "", ""] in cells
        assert lines[-1].strip() == "2 runs: 1 under way, 1 waiting"

    def test_is_refreshed_in_place_and_lines_stand_above_it(self, monkeypatch):
        board, out = on_terminal(LiveBoard)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        with board:
            board.begin(STATES)
            board.report("c", {"state": "evaluating", "env_steps": 5, "total_steps": 10, "return": 1.5})
            board.report("a", {"note": "stalled: nothing has happened"})
            board.report("a", {"note": "no video: of no interest here"})
            board.tell("[1/2] b: done")
        text = out.getvalue()
        assert "a: stalled: nothing has happened" in text
        assert "no video" not in text
        assert "[1/2] b: done" in text
        last = text[text.rindex("[1/2]") :]
        assert last.index("evaluating") < last.index("waiting") < last.index("done ")
        assert "5/10" in last

    def test_fits_the_terminal(self):
        board, out = on_terminal(LiveBoard, height=8)
        with board:
            board.begin({f"run {number}": "waiting" for number in range(100)})
        text = out.getvalue()
        drawn = text.count("eval return")  # once for each refresh that there was time for
        assert text.count("run 1 ") == drawn
        assert text.count("\n") <= 8 * drawn
        assert "run 2" not in text
        assert "100 runs: 100 waiting" in text

    def test_is_not_there_before_the_study_is_accepted(self):
        board, out = on_terminal(LiveBoard)
        with board:
            pass
        assert out.getvalue() == ""

    def test_lines_go_to_the_output_if_that_is_no_terminal(self, capsys):
        board, out = on_terminal(LiveBoard)
        with board:
            board.tell("kept")
        assert capsys.readouterr().out == "kept\n"
        assert "kept" not in out.getvalue()


class TestLines:
    def test_name_the_runs_under_way(self):
        runs = [RunState(f"r{k}", "running", k, 10, seconds_left=k) for k in range(6)]
        runs += [RunState("w"), RunState("d", "done"), RunState("f", "failed")]
        assert line_on(runs) == (
            "9 runs: 1 done, 6 under way, 1 failed, 1 waiting; r0 running 0 % (left 0 s); r1 running 10 % (left 1 s);"
            " r2 running 20 % (left 2 s); r3 running 30 % (left 3 s); 2 more"
        )

    def test_come_now_and_then(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
        out = io.StringIO()
        board = PlainBoard(out)
        board.begin(STATES)
        for now[0] in (1.0, 59.0, 60.0, 61.0, 119.0, 125.0):
            board.report("a", {"state": "running", "env_steps": int(now[0]), "total_steps": 200})
        assert [line.split("; ")[1] for line in out.getvalue().splitlines()] == [
            "a running 30 %", "a running 62 %",
        ]  # fmt: skip


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveBoard), (False, PlainBoard)])
def test_a_terminal_gets_a_table(monkeypatch, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert isinstance(make_board(), kind)


@pytest.mark.parametrize(("widgets", "kind"), [(True, LiveBoard), (False, PlainBoard)])
def test_a_notebook_that_has_widgets_gets_a_table(monkeypatch, widgets, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(live, "find_spec", lambda name: object() if widgets else None)
    assert isinstance(make_board(), kind)


@pytest.mark.parametrize("kind", [NoBoard, PlainBoard], ids=["nobody looks", "a log"])
def test_a_stall_is_printed_without_a_table_too(capsys, kind):
    with kind() as board:
        board.begin(STATES)
        board.report("a", {"note": "stalled: nothing has happened for 60 s"})
        board.report("c", {"note": "no video: of no interest here"})
    told = capsys.readouterr()
    assert told.out + told.err == "a: stalled: nothing has happened for 60 s\n"


class Heard(NoBoard):
    def __init__(self):
        self.states, self.reports = {}, []

    def begin(self, states):
        self.states = dict(states)

    def report(self, name, values):
        self.reports.append((name, values))


def test_a_study_tells_the_board_of_every_run(tmp_path):
    board = Heard()
    run_study(small_study(seeds=1, agents=("random",)), tmp_path)
    run_study(small_study(seeds=2, agents=("random",)), tmp_path, board=board)
    names = ["FrozenLake-v1 random seed 0", "FrozenLake-v1 random seed 1"]
    assert board.states == {names[0]: "done", names[1]: "waiting"}
    assert {name for name, _ in board.reports} == {names[1]}
    told = [values for _, values in board.reports]
    states = [values["state"] for values in told if "state" in values]
    assert states[0] == "running"
    assert "evaluating" in states
    assert states[-1] == "done"
    assert [v["env_steps"] for v in told if "env_steps" in v][-1] == QUIET["total_steps"]
    assert any(v.get("eval_return") is not None for v in told)


def test_reports_are_dropped_while_nobody_reads(tmp_path):
    reading, writing = os.pipe()
    reports = Reports(writing, 100)
    for step in range(10_000):
        reports.show({"env_steps": step})
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = [read_report(line) for line in pipe]
    assert lines[:2] == [
        {"state": "running", "env_steps": 0, "total_steps": 100}, {"env_steps": 0, "seconds_left": None},
    ]  # fmt: skip
    assert 100 < len(lines) < 10_000
    reports.show({"env_steps": 3})  # the study has gone


def test_reports_of_a_run_have_the_names_that_the_board_knows(tmp_path, capsys):
    reading, writing = os.pipe()
    reports = Reports(writing, 100, at=10)
    reports.aim(128)
    reports.show({"env_steps": 20, "episode_return_mean": 0.5})
    reports.doing("evaluation")
    reports.evaluated({"eval_return_mean": 0.75})
    reports.doing("")
    reports.note("a line")
    reports.finish(128)
    reports.close()
    os.close(writing)
    state = RunState("run")
    with os.fdopen(reading, "rb") as pipe:
        lines = [json.loads(line) for line in pipe]
    for line in lines:
        state.take(line)
    assert state == RunState("run", "running", 128, 128, 0.5, 0.75, 0.0)
    assert {"state": "evaluating"} in lines
    assert {"note": "a line"} in lines
    assert capsys.readouterr().err == "a line\n"

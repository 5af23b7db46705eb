"""The command `benchmark`: what it takes and what it writes; the figures themselves are measured by hand."""

from __future__ import annotations

import json
from importlib import import_module
from typing import get_args

import pytest

from commands import call, require_refusal
from rl_lab.benchmarks import dp, training
from rl_lab.benchmarks.work import Work
from rl_lab.cli.benchmark import BENCHMARKS, Name, benchmark


def test_rows_compare_both_sides_by_their_medians(capsys, monkeypatch, tmp_path):
    times = {"ours": iter([9.0, 2.0, 1.0, 3.0]), "theirs": iter([9.0, 6.0, 5.0, 4.0])}
    work = Work(
        "a sum", "a peer", lambda: next(times["ours"]), lambda: next(times["theirs"]), more=lambda: {"k": 1}
    )
    monkeypatch.setattr(training, "acting", lambda: [work, {"work": "measured before"}])
    file = tmp_path / "results.json"
    code, out, _ = call(capsys, benchmark, "acting", "--turns", "3", "--json", file)
    assert code == 0
    assert "a sum: ours 2 s, a peer 5 s; ratio 2.50" in out
    compared, before = json.loads(file.read_bytes())["results"]
    assert compared == {
        "work": "a sum", "peer": "a peer", "unit": "s", "ours": 2.0, "theirs": 5.0, "ratio": 2.5,
        "ratio_range": [4 / 3, 5.0], "k": 1,
    }  # fmt: skip
    assert before == {"work": "measured before"}


def test_where_memory_is_the_bottleneck_the_share_of_its_bandwidth_is_told(capsys, monkeypatch):
    work = Work("a copy", "a peer", lambda: 2.0, lambda: 4.0, moved_bytes=50.0)
    monkeypatch.setattr(training, "acting", lambda: [work])
    monkeypatch.setattr(dp, "copy_bandwidth", lambda: 100.0)
    _, out, _ = call(capsys, benchmark, "acting", "--turns", "1")
    assert "bandwidth_share 0.25" in out  # 50 bytes in 2 s, of 100 a second


def test_every_benchmark_is_a_function_of_its_module():
    for name, module in BENCHMARKS.items():
        assert name in get_args(Name)
        assert callable(getattr(import_module(f"rl_lab.benchmarks.{module}"), name))


def test_the_help_names_them_all(capsys):
    text = " ".join(call(capsys, benchmark, "--help")[1].replace("│", " ").split())
    assert f"Benchmark: {', '.join(BENCHMARKS)}." in text


def test_a_peer_that_is_missing_is_said_in_one_line(capsys, monkeypatch):
    def needs_a_peer():
        raise ModuleNotFoundError("No module named 'quantecon'", name="quantecon")

    monkeypatch.setattr(training, "ppo", needs_a_peer)
    require_refusal(call(capsys, benchmark, "ppo"), "'ppo'", "No module named 'quantecon'")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["zzz"], ["'zzz'", "allowed: acting, batched"]),
        (["dqm"], ["'dqm'", "close: dqn"]),
        (["acting", "--turns", "0"], ["turns", "at least 1", "got 0"]),
        ([], ["NAME"]),
    ],
    ids=" ".join,
)
def test_refuses_in_one_line(capsys, words, named):
    require_refusal(call(capsys, benchmark, *words), *named)

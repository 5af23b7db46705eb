"""The commands `verify` and `torture`: a killed run ends as an undisturbed one, and what differs is said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from commands import call, require_refusal
from rl_lab.cli import torture as long_form
from rl_lab.cli import verify as short_form
from rl_lab.cli.torture import torture
from rl_lab.cli.verify import verify
from rl_lab.storage.checkpoint import Checkpoints


@pytest.mark.long
def test_a_killed_run_is_found_equal(capsys, tmp_path):
    words = ["--env-id", "FrozenLake-v1", "--total-steps", "3000", "--kills", "1", "--seed", "3"]
    code, out, err = call(capsys, verify, *words, "--out", tmp_path / "runs")
    assert (code, err) == (0, "")
    assert "killed at " in out
    assert out.count("  equal\n") >= 4
    assert "DIFFERS" not in out


def test_a_run_that_ends_otherwise_is_told(capsys, tmp_path, monkeypatch):
    calls = iter([{"weights": "a" * 64, "episodes.csv": "b" * 64}, {"weights": "c" * 64}])
    monkeypatch.setattr(short_form, "fingerprint", lambda folder: next(calls))
    monkeypatch.setattr(short_form, "_disturbed", lambda *_: [10])
    monkeypatch.setattr(short_form.subprocess, "run", lambda *_, **__: None)
    (tmp_path / "0" / "killed").mkdir(parents=True)
    (tmp_path / "0" / "killed" / "metrics.jsonl").touch()
    monkeypatch.setattr(short_form.shutil, "rmtree", lambda *_, **__: None)
    code, out, _ = call(capsys, verify, "--env-id", "FrozenLake-v1", "--out", tmp_path)
    assert code == 1
    assert f"DIFFERS: {'c' * 16}" in out
    assert "DIFFERS: missing" in out


@pytest.mark.long
def test_torture_counts_kills_and_what_they_left(capsys, tmp_path, monkeypatch):
    runs = {
        "q-learning": long_form.RUNS["q-learning"] | {"total_steps": 20_000, "checkpoint_every_steps": 500}
    }
    monkeypatch.setattr(long_form, "RUNS", runs)
    words = [
        "--kills",
        "2",
        "--longest-seconds",
        "0.3",
        "--out",
        tmp_path / "runs",
        "--json",
        tmp_path / "counts.json",
    ]
    code, out, _ = call(capsys, torture, *words)
    assert code == 0
    counts = json.loads((tmp_path / "counts.json").read_bytes())
    assert json.loads(out) == counts
    assert counts["q-learning"]["kills"] == 2
    assert counts["q-learning"]["unloadable"] == 0
    assert counts["q-learning"]["equal"] is True


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        (verify, ["--kills", "0"], ["kills", "at least 1", "got 0"]),
        (verify, ["--seed", "-1"], ["seed", "at least 0"]),
        (torture, ["--kills", "1"], ["kills", "at least 2"]),
        (torture, ["--longest-seconds", "0"], ["longest_seconds", "greater than"]),
    ],
)
def test_refuse_in_one_line(capsys, tmp_path, monkeypatch, command, words, named):
    monkeypatch.chdir(tmp_path)
    require_refusal(call(capsys, command, *words), *named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_torture_starts_a_run_anew_that_was_killed_before_its_first_file(
    capsys, tmp_path, monkeypatch, quick
):
    monkeypatch.setattr(long_form, "_live_and_die", lambda *_: True)
    code, out, _ = call(capsys, torture, "--kills", "2", "--out", tmp_path / "runs")
    assert code == 0
    assert json.loads(out)["q-learning"] == {"kills": 2, "inside_a_save": 0, "unloadable": 0, "equal": True}


@pytest.fixture
def quick(monkeypatch):
    fields = long_form.RUNS["q-learning"] | {"total_steps": 2_000, "checkpoint_every_steps": 500}
    monkeypatch.setattr(long_form, "RUNS", {"q-learning": fields})


@pytest.mark.long
def test_torture_does_not_count_a_run_that_finished_before_its_kill(capsys, tmp_path, monkeypatch, quick):
    lives = []

    def live_and_die(agent, folder, fields, seconds):
        lives.append((folder / "summary.json").exists())
        if len(lives) == 1:
            long_form._live(agent, folder, fields)
        return len(lives) > 1

    monkeypatch.setattr(long_form, "_live_and_die", live_and_die)
    code, out, _ = call(capsys, torture, "--kills", "1", "--out", tmp_path / "runs")
    assert (code, json.loads(out)["q-learning"]["kills"]) == (0, 1)
    assert lives == [False, False]  # the finished run was removed before the second life


@pytest.mark.parametrize(
    ("what", "found"),
    [("_loads", {"unloadable": 1}), ("_is_equal", {"equal": False})],
    ids=["lost", "differs"],
)
def test_torture_fails_where_anything_was_lost(capsys, tmp_path, monkeypatch, quick, what, found):
    monkeypatch.setattr(long_form, "_live_and_die", lambda *_: True)
    monkeypatch.setattr(long_form, what, lambda folder: False)
    code, out, _ = call(capsys, torture, "--kills", "1", "--out", tmp_path / "runs")
    assert code == 1
    assert json.loads(out)["q-learning"].items() >= found.items()


def test_checkpoints_that_are_damaged_are_told(capsys, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert long_form._loads(tmp_path)  # killed before its first
    manifest = checkpoints.save(1, {"weights": {"w": np.ones(3)}})
    assert long_form._loads(tmp_path)
    manifest.write_bytes(b"")
    with pytest.warns(UserWarning, match="passed over"):
        assert not long_form._loads(tmp_path)
    assert capsys.readouterr().err.startswith("unloadable: ")


def test_what_no_manifest_names_was_left_by_an_unfinished_save(tmp_path):
    Checkpoints(tmp_path / "checkpoints").save(1, {"weights": {"w": np.ones(3)}})
    assert not long_form._left_a_save_unfinished(tmp_path)
    (tmp_path / "checkpoints" / "1.json.tmp").touch()
    assert long_form._left_a_save_unfinished(tmp_path)

"""scripts/saving.py measures checkpoints of images: at a small scale, what it says is true."""

from __future__ import annotations

import json
import runpy
import sys

import pytest

from commands import SCRIPTS


def test_the_script_writes_what_it_found(tmp_path, monkeypatch, capsys):
    options = ["--frames", 60, "--every", 20, "--num-envs", 2, "--folder", tmp_path]
    words = [*map(str, options), "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["saving.py", *words])
    assert runpy.run_path(str(SCRIPTS / "saving.py"))["main"]() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" frames: saved in ")[0] for line in lines] == ["20", "40", "60"]
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["frames"], found["every"], found["num_envs"]) == (60, 20, 2)
    sizes = [saved["disk_mb"] for saved in found["checkpoints"]]
    opened = 2 * 3 / 60  # frames of the stacks that opened the two episodes, to those of 60 steps
    assert sizes[-1] >= 60 * 84 * 84 / 1e6 * (1 + opened)
    assert 0.1 < sizes[0] < sizes[1] < sizes[2] < 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--frames", "0", "allowed: a whole number of at least 1"),
        ("--every", "1e3", "allowed: a whole number of at least 1"),
        ("--num-envs", "-1", "allowed: a whole number of at least 1"),
        ("--frames", "1000000000000", "allowed: up to "),
        ("--json", "/dev/null/found.json", "can't be written: Not a directory"),
        ("--folder", "/dev/null/folder", "can't be written into: Not a directory"),
    ],
)
def test_what_it_cant_work_with_is_refused_before_any_work(option, value, allowed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["saving.py", f"{option}={value}"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "saving.py"))["main"]()
    assert ended.value.code == 2
    assert value in (last := capsys.readouterr().err.splitlines()[-1])
    assert allowed in last

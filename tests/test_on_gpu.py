"""The script for a GPU does its work on a CPU too, at a small scale."""

from __future__ import annotations

import json

import pytest

from commands import run_script

pytest.importorskip("ale_py")


@pytest.mark.long
def test_it_measures_pong_and_many_agents_and_keeps_the_results(tmp_path):
    out = tmp_path / "on_gpu.json"
    words = ["--device", "cpu", "--threads", 1, "--pong-steps", 4_096, "--agents", 3, "--cart-steps", 220]
    done = run_script("on_gpu.py", *words, "--out", out)
    assert done.returncode == 1, done.stderr  # Pong isn't solved
    found = json.loads(out.read_bytes())
    assert [point["env_steps"] for point in found["pong"]["curve"]] == [2_048, 4_096]
    assert found["pong"]["frames_per_second"] == pytest.approx(4 * 4_096 / found["pong"]["seconds"])
    assert not found["pong"]["solved"]
    assert found["cart_pole"]["agents"] == 3
    assert found["cart_pole"]["gradient_steps_per_second"] > 0


def test_a_wrong_number_is_refused(tmp_path):
    done = run_script("on_gpu.py", "--agents", 0, "--out", tmp_path / "on_gpu.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "agents must be at least 1, got 0" in done.stderr

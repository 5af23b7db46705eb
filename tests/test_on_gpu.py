"""The script for a GPU does its work on a CPU too, at a small scale."""

from __future__ import annotations

import json
import os
import stat

import pytest

from commands import run_script

pytest.importorskip("ale_py")
SMALL = ["--device", "cpu", "--threads", 1, "--agents", 3, "--cart-steps", 220]


@pytest.mark.long
def test_it_measures_pong_and_many_agents_and_keeps_the_results(tmp_path):
    """With a stand-in for the tool that tells of the GPU."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 40; echo [N/A]; echo 60\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    out = tmp_path / "on_gpu.json"
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run_script("on_gpu.py", *SMALL, "--pong-steps", 4_096, "--out", out, PATH=path)
    assert done.returncode == 1, done.stderr  # Pong isn't solved
    found = json.loads(out.read_bytes())
    pong, carts = found["pong"], found["cart_pole"]
    assert [point["env_steps"] for point in pong["curve"]] == [2_048, 4_096]
    assert pong["frames_per_second"] == pytest.approx(4 * 4_096 / pong["train_seconds"], rel=1e-3)
    assert not pong["solved"]
    assert carts["agents"] == 3
    assert carts["gradient_steps_per_second"] == pytest.approx(3 * 21 / carts["seconds"], rel=0.1)
    for figures in (pong, carts):
        assert figures["utilisation_percent_mean"] == 50


@pytest.mark.long
def test_pong_stops_when_its_time_is_over(tmp_path):
    out = tmp_path / "on_gpu.json"
    words = ["--pong-steps", 16_384, "--minutes", 0.01, "--out", out]
    assert run_script("on_gpu.py", *SMALL, *words).returncode == 1
    assert json.loads(out.read_bytes())["pong"]["env_steps"] < 16_384


def test_a_wrong_number_is_refused(tmp_path):
    done = run_script("on_gpu.py", "--agents", 0, "--out", tmp_path / "on_gpu.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "agents must be at least 1, got 0" in done.stderr

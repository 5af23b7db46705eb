"""The script beside an exported policy: how it makes the environment, and which masks it heeds."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rl_lab.exporting.described import play_script
from rl_lab.exporting.export import Wanted, export
from rl_lab.runs.config import RunConfig
from runs import SMALL_DQN, learn

WAYS = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class InInfo(gym.Env):
    observation_space = spaces.Discrete(6)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.shown(0, {})

    def step(self, action):
        assert action != 0, "illegal action 0"
        self.t += 1
        obs, info = self.shown(self.t, {})
        return obs, -1.0 * action, self.t >= 5, False, info

    def mask(self):
        return np.array([0, 1, 1], np.int8)

    def shown(self, obs, info):
        return obs, {"action_mask": self.mask()}


class ByMethod(InInfo):
    def action_masks(self):
        return self.mask()

    def shown(self, obs, info):
        return obs, info


class InObservation(InInfo):
    observation_space = spaces.Dict({"at": spaces.Discrete(6), "action_mask": spaces.MultiBinary(3)})
    action_masks = None  # no method

    def shown(self, obs, info):
        return {"at": obs, "action_mask": self.mask()}, info


for kind in (InInfo, ByMethod, InObservation):
    gym.register(id=f"{kind.__name__}-v0", entry_point=kind)
"""


def played(script, cwd, *words, lab=False):
    """Run an exported script in a folder, without the lab unless it needs that."""
    without = "" if lab else "sys.modules['rl_lab'] = None; "
    code = (
        f"import sys, runpy; sys.path.pop(0); {without}runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )


@pytest.mark.parametrize("way", ["InInfo", "ByMethod", "InObservation"])
def test_masks_are_heeded_by_the_script_in_each_of_the_three_ways(tmp_path, monkeypatch, way):
    """The environment lies in a module of the working folder, and raises an error at an illegal action."""
    (tmp_path / "ways_of_masks.py").write_text(WAYS)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    learn(run, "q-learning", f"ways_of_masks:{way}-v0", total_steps=60)
    found = export(run, wanted=Wanted(episodes=1, card=False))
    done = played(run / "export" / "play.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"return {found.rows[0].returns[0]:g} in 5 steps\n"


def test_masks_are_heeded_where_the_lab_makes_the_environment(tmp_path, monkeypatch):
    (tmp_path / "ways_of_masks.py").write_text(WAYS)
    monkeypatch.chdir(tmp_path)
    run, wrapper = tmp_path / "run", "gymnasium.wrappers:RecordEpisodeStatistics"
    learn(run, "q-learning", "ways_of_masks:ByMethod-v0", total_steps=60, wrappers=(wrapper,))
    found = export(run, wanted=Wanted(episodes=1, card=False))
    done = played(run / "export" / "play.py", tmp_path, lab=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"return {found.rows[0].returns[0]:g} in 5 steps\n"


def test_an_episode_that_goes_on_for_ever_is_cut_off_where_the_lab_does_it(tmp_path):
    learn(tmp_path / "table", "q-learning", "CliffWalking-v1", total_steps=60, eval_max_steps=7)
    export(tmp_path / "table", wanted=Wanted(episodes=1, card=False))
    done = played(tmp_path / "table" / "export" / "play.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" in 7 steps, cut off\n")


@pytest.mark.parametrize("words", [("-1",), ("one",), ("1", "2"), ("",), ("1.5",), ("2147483648",)])
def test_what_is_no_seed_is_named_in_a_line(tmp_path, words):
    script = tmp_path / "run" / "export" / "play.py"
    learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=20)
    export(tmp_path / "run", wanted=Wanted(episodes=1, card=False))
    done = played(script, tmp_path, *words)
    said = f"seed {' '.join(words)!r} (allowed: a whole number from 0 to 2147483647)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert played(script, tmp_path, "7").stdout == played(script, tmp_path, "7").stdout != ""


def test_policies_of_an_earlier_export_are_told(tmp_path):
    learn(tmp_path / "run", "dqn", "CartPole-v1", **SMALL_DQN, total_steps=60)
    wanted = Wanted(episodes=1, card=False)
    assert export(tmp_path / "run", wanted=wanted).notes == []
    assert export(tmp_path / "run", wanted=wanted).notes == []  # which replaces all
    assert export(tmp_path / "run", "torch", wanted=wanted).notes == ["from an earlier export: policy.onnx"]
    assert (tmp_path / "run" / "export" / "policy.onnx").is_file()


def test_masks_that_do_not_come_end_the_script_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "ways_of_masks.py").write_text(WAYS)
    monkeypatch.chdir(tmp_path)
    learn(tmp_path / "run", "q-learning", "ways_of_masks:InInfo-v0", total_steps=60)
    export(tmp_path / "run", wanted=Wanted(episodes=1, card=False))
    (tmp_path / "ways_of_masks.py").write_text(WAYS.replace("action_mask", "mask"))
    done = played(tmp_path / "run" / "export" / "play.py", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("the environment gives no mask (allowed: ")


@pytest.mark.parametrize(
    ("env_id", "preprocess", "making"),
    [
        ("CartPole-v1", "none", "env = gymnasium.make('CartPole-v1')"),
        ("games.mine:Pole-v0", "none", "sys.path.append(str(Path.cwd()))  # games.mine may lie there"),
        ("lab/TMaze-v0", "none", "env = make_env('lab/TMaze-v0', {}, preprocess='none')"),
        ("MinAtar/Breakout-v1", "none", "env = make_env('MinAtar/Breakout-v1', {}, preprocess='none')"),
        ("ALE/Pong-v5", "none", "env = make_env('ALE/Pong-v5', {}, preprocess='none')"),  # not by default
        ("ALE/Pong-v5", "nature", "env = make_env('ALE/Pong-v5', {}, preprocess='nature')"),
    ],
)
def test_the_script_makes_the_environment_as_the_run_did(env_id, preprocess, making):
    config = RunConfig(env_id, preprocess=preprocess)
    trained = SimpleNamespace(
        description=SimpleNamespace(config=config),
        problem=SimpleNamespace(spec=SimpleNamespace(has_lives=False)),
        signature=SimpleNamespace(has_mask=False),
    )
    text = play_script(trained, "policy.onnx").decode()
    compile(text, "play.py", "exec")
    assert f"    {making}\n" in text

"""Environments by name: which ids are found, how they are preprocessed, and what may be wrapped around them."""

from __future__ import annotations

import os
import sys
import warnings

import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, NormalizeObservation, TimeLimit

from counting import Counting
from rl_lab.environments.make import (
    make_env,
    make_envs,
    require_no_memory_across_episodes,
    resolve_preprocessing,
)
from rl_lab.types import UsageError

MODULE = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
gymnasium.register("{name}/Own-v0", CartPoleEnv)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, where modules may lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p and p != str(tmp_path)])
    return tmp_path


class TestModules:
    def test_are_found_in_the_working_folder_behind_all_packages(self, folder):
        (folder / "own_envs_a.py").write_text(MODULE.format(name="own_envs_a"))
        (folder / "gymnasium.py").write_text("raise AssertionError('hides a package')")
        env = make_env("own_envs_a:own_envs_a/Own-v0")
        assert env.spec.id == "own_envs_a/Own-v0"
        assert sys.path[-1] == str(folder)

    def test_are_found_by_processes_of_their_own(self, folder):
        (folder / "own_envs_b.py").write_text(MODULE.format(name="own_envs_b"))
        envs = make_envs("own_envs_b:own_envs_b/Own-v0", 2, vector="async")
        envs.reset(seed=[0, 1])
        envs.close()

    def test_that_are_missing_are_named_with_where_they_were_looked_for(self, folder):
        with pytest.raises(UsageError) as caught:
            make_env("no_such_module:Own-v0")
        assert str(caught.value) == (
            "environment 'no_such_module:Own-v0': module 'no_such_module' can't be imported: ModuleNotFoundError:"
            f" No module named 'no_such_module' (looked for among the installed packages and in {folder})"
        )

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
            ("from gymnasium import nothing", "ImportError: cannot import name 'nothing'"),
            ("1 +", "SyntaxError: invalid syntax"),
            ("raise RuntimeError('no licence\\nfound')", "RuntimeError: no licence"),
        ],
    )
    def test_that_fail_are_named_with_the_cause_in_one_line(self, folder, text, cause):
        (folder / "own_envs_broken.py").write_text(text)
        with pytest.raises(UsageError) as caught:
            make_env("own_envs_broken:Own-v0")
        assert f"module 'own_envs_broken' can't be imported: {cause}" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_that_register_other_ids_are_not_to_blame(self, folder):
        (folder / "own_envs_c.py").write_text(MODULE.format(name="own_envs_c"))
        with pytest.raises(UsageError, match=r"unknown environment 'own_envs_c:own_envs_c/Owm-v0' .*/Own-v0"):
            make_env("own_envs_c:own_envs_c/Owm-v0")


class TestGames:
    @pytest.mark.parametrize(
        "env_id", ["ALE/Pong-v5", "ale_py:ALE/Pong-v5", "PongNoFrameskip-v4", "PongNoFrameskip-v0", "Pong-v4"]
    )
    def test_are_preprocessed_under_any_of_their_ids(self, env_id):
        env = make_env(env_id)
        try:
            assert env.observation_space.shape == (4, 84, 84)
            assert isinstance(env, FrameStackObservation)
            assert isinstance(env.env, AtariPreprocessing)
            assert (env.env.frame_skip, env.unwrapped._frameskip) == (4, 1)
            assert resolve_preprocessing(env_id, "auto") == resolve_preprocessing(env_id, "atari") == "atari"
        finally:
            env.close()

    def test_are_left_alone_on_request(self):
        env = make_env("PongNoFrameskip-v4", preprocess="none")
        assert env.observation_space.shape == (210, 160, 3)
        env.close()

    def test_that_are_not_registered_are_unknown(self):
        with pytest.raises(UsageError, match="unknown environment 'PongDeterministic-v9'"):
            make_env("PongDeterministic-v9")
        with pytest.raises(UsageError, match="preprocess 'atari' needs a game"):
            make_env("FrozenLake-v1", preprocess="atari")


class TestMaps:
    @pytest.mark.parametrize(
        ("desc", "says"),
        [
            (["FF", "FG"], r"map \['FF', 'FG'\] has no start"),
            (["SFF", "FG"], r"map .* has rows of unequal length: \[3, 2\]"),
            ([["S", "F"], ["G"]], r"rows of unequal length: \[2, 1\]"),
            ("SFFG", "desc 'SFFG' is no map"),
            ([1, 2], r"desc \[1, 2\] is no map"),
            ([], r"desc \[\] is no map"),
            (7, r"desc 7 is no map"),
            ({"SG": 1, "FG": 2}, "is no map"),
            (np.array(5), "is no map"),
            (b"SFFG", r"desc b'SFFG' is no map"),
            (["SXG"], r"map \['SXG'\] has the cell 'X' \(allowed: S, F, H, G\)"),
            (
                [b"SG"],
                r"desc \[b'SG'\] has rows of bytes \(allowed: texts, a list of rows, such as",
            ),  # for Gymnasium it has no start
            ([[b"S", b"X"]], r"has the cell 'X' \(allowed: S, F, H, G\)"),
            ([["S", None]], r"has the cell None \(allowed: S, F, H, G\)"),
            ([["S", ""]], r"has the cell '' \(allowed: S, F, H, G\)"),
            (
                ["S"],
                r"map \['S'\] has rows of one cell in a text \(allowed: texts of two cells or more, or lists",
            ),
            (["S", "G"], r"has rows of one cell in a text"),
        ],
    )
    @pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1"])
    def test_that_make_no_sense_are_said_in_one_line(self, env_id, desc, says):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy's would be further lines
            with pytest.raises(UsageError, match=says) as caught:
                make_env(env_id, {"desc": desc})
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["9x9", 4, ["4x4"]])
    def test_whose_name_is_unknown_are_refused_with_those_that_are(self, name):
        with pytest.raises(UsageError, match=r"^map_name .* is unknown \(allowed: 4x4, 8x8\)$"):
            make_env("FrozenLake-v1", {"map_name": name})

    @pytest.mark.parametrize(
        "desc",
        [
            ["SFF", "FHG"], [["S", "F"], ["F", "G"]], [["S"], ["G"]], [[b"S", b"G"]],
            np.array([["S", "G"]]), np.array([[b"S", b"G"]]), ("SG", "HF"),
        ],
    )  # fmt: skip
    def test_that_do_are_played(self, desc):
        assert make_env("FrozenLake-v1", {"desc": desc}).reset(seed=0)[0] == 0


def test_memory_across_episodes_is_refused():
    with pytest.raises(UsageError, match="NormalizeObservation remembers across episodes"):
        require_no_memory_across_episodes(TimeLimit(NormalizeObservation(Counting()), 3))


def test_the_working_folder_is_not_searched_for_ids_without_a_module(folder):
    make_env("CartPole-v1")
    assert os.getcwd() not in sys.path

"""The benchmark of Atari: both sides play the same game in the same way, and take as many gradient steps."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import AtariWrapper

from rl_lab.benchmarks import atari
from rl_lab.benchmarks.work import Work
from rl_lab.environments.atari import GameVector
from rl_lab.environments.make import make_envs
from rl_lab.environments.protocols import protocol_of


@pytest.fixture(scope="module")
def rows():
    return atari.atari()


def test_rows_are_acting_learning_by_two_agents_and_bytes(rows):
    works = [row.work for row in rows if isinstance(row, Work)]
    assert [work.split(",")[0] for work in works] == ["acting and storing", "dqn", "dqn", "ppo", "ppo"]
    assert [row.ours.keywords["compile"] for row in rows[1:-1]] == ["no", "yes", "no", "yes"]
    assert rows[-1]["work"] == "a transition of Atari, of a million"
    assert rows[-1]["theirs"] == 2 * 4 * 84 * 84 + 8 + 3 * 4


def test_both_sides_take_as_many_gradient_steps_of_the_same_size(rows):
    acting, dqn, _, ppo, _ = (
        (row.ours.args[0], row.ours.keywords, row.theirs.keywords) for row in rows if isinstance(row, Work)
    )
    for _, ours, theirs in (acting, dqn):
        # SB3 counts vector steps, the lab those of single environments
        assert theirs["train_freq"] * ours["num_envs"] == ours["train_period_env_steps"]
        assert theirs["gradient_steps"] == ours["gradient_steps_per_update"]
        assert (theirs["batch_size"], theirs["buffer_size"]) == (ours["batch_size"], ours["replay_capacity"])
        assert theirs["learning_starts"] == ours["learning_starts_env_steps"]
    assert (acting[1]["gradient_steps_per_update"], dqn[1]["gradient_steps_per_update"]) == (0, 8)
    assert dqn[1]["learning_starts_env_steps"] < dqn[1]["total_steps"] / 4
    _, ours, theirs = ppo
    assert {name: theirs[name] for name in ("n_steps", "batch_size", "n_epochs")} == {
        name: ours[name] for name in ("n_steps", "batch_size", "n_epochs")
    }
    assert ours["total_steps"] == ours["n_steps"] * ours["num_envs"]  # a whole rollout on both sides
    assert {theirs["policy_kwargs"]["net_arch"] == [] for _, _, theirs in (acting, dqn, ppo)} == {True}


def test_games_are_those_of_sb3s_wrapper(rows):
    fields = rows[0].ours.keywords
    protocol = protocol_of(fields["preprocess"], fields["env_kwargs"])
    theirs = {name: p.default for name, p in inspect.signature(AtariWrapper.__init__).parameters.items()}
    assert (protocol.noop_max, protocol.frameskip) == (theirs["noop_max"], theirs["frame_skip"])
    assert protocol.repeat_action_probability == theirs["action_repeat_probability"]
    assert protocol.use_fire_reset  # FireResetEnv
    assert fields["life_loss_terminates"] == theirs["terminal_on_life_loss"]
    assert (fields["reward_clip"] == 1.0) == theirs["clip_reward"]


def test_ours_runs_in_ale_pys_own_vector(rows):
    fields = rows[0].ours.keywords
    envs = make_envs(
        f"ALE/{atari.GAME}-v5",
        2,
        fields["env_kwargs"],
        preprocess=fields["preprocess"],
        life_loss_terminates=True,
    )
    assert isinstance(envs, GameVector)
    assert envs.reset(seed=[0, 1])[0].dtype == np.uint8
    envs.close()


def test_compiling_counts_for_nothing(rows, monkeypatch):
    summary, shares = {"train_seconds": 10.0, "compile_seconds": 6.0}, {}
    monkeypatch.setattr(atari, "learn", lambda *args, **fields: SimpleNamespace(summary=summary))
    monkeypatch.setattr(atari, "shares_of", lambda run_dir, seconds: {"of": seconds})
    assert atari.lab_seconds("dqn", shares, total_steps=640) == 4.0
    assert shares == {"of": 4.0, "decisions_per_second": 160.0}


@pytest.mark.long
def test_both_sides_run():
    row = atari.atari(acting_steps=64)[0]
    assert row.ours() > 0
    assert row.theirs() > 0
    assert row.more()["decisions_per_second"] > 0

"""Environments that don't replay as they were played: where the resumed run differs, it says so and goes on."""

from __future__ import annotations

import pytest

import counting
import rl_lab
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import ACTIONS, read_episodes, read_rows
from runs import differences, learn

SMALL = {
    "learning_starts_env_steps": 40, "replay_capacity": 120, "batch_size": 8, "hidden": (16,),
    "train_period_env_steps": 4, "target_period_env_steps": 50,
}  # fmt: skip


class TestReplaysThatDiffer:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("env_id", ["test/Wayward-v0", "test/Early-v0"])
    def test_are_recorded_and_the_run_goes_on(self, tmp_path, monkeypatch, env_id, num_envs):
        """The stop falls on the 13th step of the second episode; the world is another one afterwards."""
        learn(
            tmp_path, "random", env_id, total_steps=100 * num_envs, num_envs=num_envs, stop_at=53 * num_envs
        )
        monkeypatch.setattr(counting.Wayward, "world", 1)
        result = rl_lab.resume(tmp_path)
        said = [row for row in read_rows(tmp_path) if "truncated_at_resume" in row]
        assert [(row["env_steps"], row["truncated_at_resume"]) for row in said] == [
            (53 * num_envs, list(range(num_envs)))
        ]
        cut = [e for e in read_episodes(tmp_path) if e["episode"] == 1]
        assert [(e["env_steps"], e["length"], e["truncated"], e["terminated"]) for e in cut] == [
            (53 * num_envs, 13, 1, 0)
        ] * num_envs
        assert result.summary["env_steps"] == 100 * num_envs
        actions = (tmp_path / ACTIONS).stat().st_size
        assert actions == sum(e["length"] for e in read_episodes(tmp_path))

    def test_an_end_that_only_its_flag_gives_away_counts_too(self, tmp_path, monkeypatch):
        """In the other world the second episode is over at the very step of the stop."""
        learn(tmp_path, "random", "test/Early-v0", total_steps=60, stop_at=42)
        monkeypatch.setattr(counting.Wayward, "world", 1)
        rl_lab.resume(tmp_path)
        assert [r["truncated_at_resume"] for r in read_rows(tmp_path) if "truncated_at_resume" in r] == [[0]]
        assert read_episodes(tmp_path)[1]["length"] == 2

    def test_in_the_same_world_nothing_is_cut(self, tmp_path):
        for folder, stop in ((tmp_path / "whole", None), (tmp_path / "cut", 53)):
            learn(folder, "random", "test/Wayward-v0", total_steps=100, stop_at=stop)
        rl_lab.resume(tmp_path / "cut")
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()

    def test_a_physics_engine_is_replayed_exactly_or_says_so(self, tmp_path):
        pytest.importorskip("Box2D")
        fields = SMALL | {"total_steps": 240, "num_envs": 2}
        learn(tmp_path / "whole", "dqn", "LunarLander-v3", **fields)
        learn(tmp_path / "cut", "dqn", "LunarLander-v3", stop_at=126, **fields)
        rl_lab.resume(tmp_path / "cut")
        said = [row for row in read_rows(tmp_path / "cut") if "truncated_at_resume" in row]
        assert said or differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()

"""The presets of our own keep their word."""

from __future__ import annotations

import pytest

import rl_lab
from rl_lab.envs.memory.tmaze import TMaze
from toys import Unaware

pytestmark = pytest.mark.long

QUIET = {"wandb": "disabled", "video_episodes": 0, "eval_every_steps": 50_000}


@pytest.mark.parametrize("seed", [0, 1])
def test_cartpole_is_solved(seed, tmp_path):
    summary = rl_lab.learn(
        "dqn",
        "CartPole-v1",
        preset="recommended:CartPole-v1",
        seed=seed,
        run_dir=tmp_path / "run",
        eval_episodes=20,
        **QUIET,
    ).summary
    assert summary["env_steps"] <= 50_000
    assert summary["eval_return_mean"] >= 475


class TestTMaze:
    """The lab's own, whose corridor has ten cells and whose start shows which way to turn."""

    LENGTH = 10
    EPISODES = 200  # by chance they mean 1.95 give or take 0.145

    def learned(self, run_dir, **fields):
        return rl_lab.learn(
            "dqn",
            "lab/TMaze-v0",
            preset="recommended:lab/TMaze-v0",
            env_kwargs={"length": self.LENGTH},
            run_dir=run_dir,
            eval_episodes=self.EPISODES,
            **QUIET | fields,
        )

    def test_the_sign_is_remembered_by_who_is_told_where_episodes_begin(self, tmp_path):
        """Whoever isn't told goes on with the memory of the last episode's sign."""
        run, maze = self.learned(tmp_path / "run"), TMaze(length=self.LENGTH)
        assert run.summary["eval_return_mean"] >= 0.95 * maze.optimal_return
        policy = Unaware(rl_lab.load_policy(run.run_dir))
        envs = rl_lab.make_envs("lab/TMaze-v0", num_envs=4, env_kwargs={"length": self.LENGTH})
        returns = rl_lab.evaluate(policy, envs, episodes=self.EPISODES, seed=0).returns
        assert returns.mean() < 0.75 * maze.optimal_return

    def test_without_memory_the_turn_is_left_to_chance(self, tmp_path):
        summary = self.learned(tmp_path / "run", memory="none", total_steps=6_000).summary
        chance = TMaze(length=self.LENGTH).memoryless_return
        assert summary["eval_return_mean"] == pytest.approx(chance, abs=0.6)

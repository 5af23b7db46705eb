"""Lost lives: the bootstrap ends with them, the episode goes on."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

import rl_lab
from counting import Counting, Scripted, collect
from rl_lab.environments.check_env import brief_check
from rl_lab.environments.make import vector_of
from rl_lab.environments.vectors import MaskedVector, SingleVector
from rl_lab.environments.wrappers import LIFE_LOST, LifeLoss
from toys import problem_on


class TestLives:
    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_a_lost_life_zeroes_the_bootstrap_and_ends_nothing(self, num_envs):
        """Steps 3 and 6 lose a life; step 7 meets the time limit."""

        def make():
            return LifeLoss(TimeLimit(Counting(ends_at=10**9, lives=5), 7))

        envs = SingleVector(make())
        if num_envs > 1:
            envs = MaskedVector(SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED))
        steps, cursors = collect(envs, Scripted(lambda o, m: 0), 14)
        for i in range(num_envs):
            assert [t + 1 for t, s in enumerate(steps) if s.terminated[i]] == [3, 6, 10, 13]
            assert [t + 1 for t, s in enumerate(steps) if s.truncated[i]] == [7, 14]
            assert [t + 1 for t, c in enumerate(cursors) if c.is_first[i]] == [7, 14]

    def test_without_it_lives_mean_nothing(self):
        steps, _ = collect(SingleVector(TimeLimit(Counting(lives=5), 7)), Scripted(lambda o, m: 0), 14)
        assert not any(s.terminated.any() for s in steps)

    @pytest.mark.parametrize("num_envs", [1, 2])
    @pytest.mark.parametrize("asked", [False, True])
    def test_what_an_environment_says_of_them_itself_counts_where_it_is_asked_for(self, asked, num_envs):
        class Says(Counting):
            def step(self, action):
                *rest, info = super().step(action)
                return *rest, info | {"life_lost": True}

        def make():
            env = TimeLimit(Says(ends_at=10**9), 7)
            return LifeLoss(env) if asked else env

        steps, cursors = collect(vector_of(make, num_envs), Scripted(lambda o, m: 0), 14)
        assert {bool(flag) for s in steps for flag in s.terminated} == {asked}
        assert [t + 1 for t, c in enumerate(cursors) if c.is_first[0]] == [7, 14]
        assert problem_on(make).spec.has_lives == asked


def test_the_environments_own_info_is_left_as_it_is():
    class Keeps(Counting):
        told: dict = {"lives": 1}  # noqa: RUF012

        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0], self.told

        def step(self, action):
            return *super().step(action)[:4], self.told

    env = LifeLoss(Keeps())
    assert env.reset(seed=0)[1] == {"lives": 1, LIFE_LOST: False}
    assert env.step(0)[4][LIFE_LOST] is False
    assert Keeps.told == {"lives": 1}


class Tells(gymnasium.Wrapper):
    """Says something of lives in its steps, from the second one on."""

    def __init__(self, entry):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.entry, self.steps = entry, 0

    def step(self, action):
        *given, info = self.env.step(action)
        self.steps += 1
        return *given, info | (self.entry if self.steps > 1 else {})


@pytest.mark.parametrize("entry", [{"lives": 3}, {"life_lost": False}])
def test_an_environment_that_tells_of_lives_is_no_news(entry):
    assert brief_check(lambda: LifeLoss(Tells(entry))) == []


def test_lives_that_are_asked_for_in_vain_are_told(tmp_path):
    says = "life_loss_terminates does nothing unless steps tell of lives: in the steps of the check "
    (line,) = brief_check(lambda: LifeLoss(Tells({})))
    assert line.startswith(says)
    given = {
        "total_steps": 20,
        "eval_episodes": 0,
        "video_episodes": 0,
        "pictures": False,
        "wandb": "disabled",
    }
    with pytest.warns(UserWarning, match=f"{says}CartPole-v1 has given neither"):
        rl_lab.learn(
            "random", "CartPole-v1", run_dir=tmp_path, life_loss_terminates=True, progress=False, **given
        )

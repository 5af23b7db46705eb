"""Evaluation: the same episodes at every width, their figures, and the cap on endless ones."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from counting import CASES, EPISODE, Scripted
from rl_lab.environments.make import make_envs
from rl_lab.evaluation.evaluate import evaluate, evaluation_seed
from rl_lab.seeding import seed_of
from rl_lab.types import UsageError


class TestEvaluation:
    @pytest.mark.parametrize("env_id", ["test/Counting-v0", "FrozenLake-v1", "Taxi-v4"])
    def test_an_episode_is_the_same_at_every_width(self, env_id):
        policy, outcomes = Scripted(CASES[env_id]), []
        for width in (1, 3, 8):
            envs = make_envs(env_id, width)
            played = evaluate(policy, envs, episodes=7, seed=3, gamma=0.9, max_steps=60)
            envs.close()
            outcomes.append(
                [
                    x.tolist()
                    for x in (played.returns, played.lengths, played.discounted_returns, played.capped)
                ]
            )
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert len(outcomes[0][0]) == 7

    def test_figures_are_those_of_the_counts(self):
        """Never ending: each episode has the 7 rewards base, base + 1, ..., base + 6."""
        envs = make_envs("test/Counting-v0", 3)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=4, seed=3, gamma=0.5)
        envs.close()
        bases = np.array([EPISODE * (evaluation_seed(3, e) % 1000) for e in range(4)], float)
        assert evaluation_seed(3, 2) == seed_of(3, "eval", 2)
        np.testing.assert_array_equal(played.returns, 7 * bases + 21)
        # sum of 0.5^t (base + t), t < 7: base * 127/64 + (1/2 + 2/4 + 3/8 + 4/16 + 5/32 + 6/64)
        np.testing.assert_allclose(played.discounted_returns, bases * 127 / 64 + 1.875, rtol=1e-12)
        assert played.lengths.tolist() == [7] * 4
        assert not played.capped.any()
        assert np.isnan(played.predicted_values).all()

    @pytest.mark.parametrize("width", [1, 3])
    def test_an_episode_without_end_is_capped_and_marked(self, width):
        envs = make_envs("test/Endless-v0", width)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=5, seed=3, max_steps=9)
        envs.close()
        assert played.lengths.tolist() == [9] * 5
        assert played.capped.all()
        assert played.figures()["eval_capped_episodes"] == 5

    def test_an_episode_that_ends_at_the_cap_is_not_marked(self):
        envs = make_envs("test/Counting-v0", 2)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=3, seed=3, max_steps=7)
        envs.close()
        assert played.lengths.tolist() == [7] * 3
        assert not played.capped.any()


class TestTheLimitOfAllSteps:
    """Steps are spent on the episodes in the order of their number, however many are played at once."""

    def play(self, env_id, width, total_steps, episodes=5, **fields):
        envs = make_envs(env_id, width)
        try:
            policy = Scripted(lambda o, m: 0)
            return evaluate(policy, envs, episodes=episodes, seed=3, total_steps=total_steps, **fields)
        finally:
            envs.close()

    @pytest.mark.parametrize("width", [1, 2, 8])
    def test_cuts_the_episode_that_meets_it_and_leaves_out_later_ones(self, width):
        played = self.play("test/Endless-v0", width, 20, max_steps=9)
        assert played.lengths.tolist() == [9, 9, 2]
        assert played.capped.tolist() == [True] * 3
        assert played.limit == "20 steps in all, after which 3 of 5 episodes had begun"
        assert played.figures()["eval_limit"] == played.limit

    def test_leaves_what_was_played_before_it(self):
        whole, cut = (self.play("test/Counting-v0", 2, limit) for limit in (None, 20))
        assert cut.returns[:2].tolist() == whole.returns[:2].tolist()
        assert cut.lengths.tolist() == [7, 7, 6]
        assert cut.capped.tolist() == [False, False, True]

    @pytest.mark.parametrize(("width", "limit"), [(1, 35), (5, 35), (5, 36), (1, None)])
    def test_is_not_met_by_episodes_that_end_within_it(self, width, limit):
        played = self.play("test/Counting-v0", width, limit)
        assert played.lengths.tolist() == [7] * 5
        assert not played.capped.any()
        assert "eval_limit" not in played.figures()

    def test_is_told_apart_from_that_of_an_episode(self):
        assert self.play("test/Endless-v0", 2, 1000, max_steps=9).limit == "9 steps an episode"


class Foreseeing(Scripted):
    """Inspects what a test says of an observation."""

    def __init__(self, inspect):
        super().__init__(lambda o, m: 0)
        self._seen = inspect

    def inspect(self, obs, state, is_first, mask=None):
        return self._seen(obs)


class TestPredictedValue:
    @pytest.mark.parametrize("width", [1, 3])
    @pytest.mark.parametrize(
        "inspect",
        [
            lambda obs: {"value": obs[:, 0] + 0.5},
            lambda obs: {"q_values": np.stack([obs[:, 0], obs[:, 0] + 0.5, obs[:, 0] - 9], axis=1)},
        ],
        ids=["value", "the best of the action values"],
    )
    def test_is_that_of_first_observations(self, width, inspect):
        """The first observation of episode e is 1000 times the last three digits of its seed."""
        envs = make_envs("test/Counting-v0", width)
        played = evaluate(Foreseeing(inspect), envs, episodes=4, seed=3)
        envs.close()
        first = [EPISODE * (evaluation_seed(3, e) % 1000) for e in range(4)]
        assert played.predicted_values.tolist() == [x + 0.5 for x in first]
        assert played.figures()["eval_predicted_value_mean"] == sum(first) / 4 + 0.5

    def test_is_left_out_where_the_policy_has_none(self):
        envs = make_envs("test/Counting-v0", 1)
        played = evaluate(Foreseeing(lambda obs: {}), envs, episodes=2, seed=3)
        envs.close()
        assert "eval_predicted_value_mean" not in played.figures()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"episodes": -3}, "episodes must be at least 1, got -3"),
        ({"episodes": 2.5}, "episodes must be a whole number, got 2.5"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"gamma": 2}, r"gamma must lie in \[0, 1\], got 2"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
    ],
)
def test_wrong_numbers_are_refused_in_a_line(wrong, named):
    with pytest.raises(UsageError, match=named):
        evaluate(None, make_envs("CartPole-v1", 1), **({"episodes": 1, "seed": 0} | wrong))


def test_an_environment_alone_is_no_vector():
    with pytest.raises(
        UsageError, match="envs must be a vector of environments as make_envs makes it, got <"
    ):
        evaluate(None, gymnasium.make("CartPole-v1"), episodes=1, seed=0)

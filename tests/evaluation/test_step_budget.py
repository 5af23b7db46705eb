"""The limit of all steps: the same results at every width as when episodes are played one after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counting import Scripted
from rl_lab.evaluation.evaluate import Evaluation, evaluate, evaluation_seed
from rl_lab.evaluation.step_budget import StepBudget

SEED, GAMMA = 3, 0.9


@dataclass(frozen=True)
class Game:
    """An episode: its rewards, one a step, and whether it goes on without end after them, with rewards of 1."""

    rewards: list[float]
    endless: bool = False

    def reward(self, step: int) -> float:
        return self.rewards[step] if step < len(self.rewards) else 1.0

    def is_over(self, steps: int) -> bool:
        return not self.endless and steps >= len(self.rewards)


class Games:
    """A vector of games, told apart by the seeds of the evaluation's episodes; the observation is the reward due."""

    def __init__(self, games: list[Game], width: int):
        self.num_envs, self.steps = width, 0  # steps: of the vector
        self._by_seed = {evaluation_seed(SEED, e): game for e, game in enumerate(games)}
        self._game, self._at = [Game([0.0])] * width, [0] * width

    def reset(self, *, seed, options=None):
        mask = [True] * self.num_envs if options is None else options["reset_mask"]
        for i in np.flatnonzero(mask):
            self._game[i], self._at[i] = self._by_seed.get(seed[i], Game([0.0], endless=True)), 0
        return self._seen(), {}

    def step(self, action):
        reward = self._seen()
        self.steps += 1
        self._at = [at + 1 for at in self._at]
        over = np.array([game.is_over(at) for game, at in zip(self._game, self._at, strict=True)])
        return self._seen(), reward, over, np.zeros(self.num_envs, bool), {}

    def _seen(self):
        return np.array([game.reward(at) for game, at in zip(self._game, self._at, strict=True)])


def one_after_another(
    games: list[Game], max_steps: int, total_steps: int
) -> list[tuple[float, int, float, bool]]:
    """Return the return, length, discounted return and cut of each episode that is begun before the steps run out."""
    played, left = [], total_steps
    for game in games:
        if left == 0:
            break
        value, discounted, steps, over = 0.0, 0.0, 0, False
        while not over and steps < max_steps and left:
            value += game.reward(steps)
            discounted += GAMMA**steps * game.reward(steps)
            steps, left = steps + 1, left - 1
            over = game.is_over(steps)
        played.append((value, steps, discounted, not over))
    return played


def columns(played: Evaluation) -> list[list[float]]:
    """Return everything that is reported, so that bits are compared."""
    arrays = (
        played.returns, played.lengths, played.discounted_returns, played.capped, played.predicted_values
    )  # fmt: skip
    return [np.nan_to_num(array, nan=-1.0).tolist() for array in arrays]


rewards = st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12)
some_games = st.lists(
    st.builds(Game, rewards, st.integers(0, 4).map(lambda n: n == 0)), min_size=1, max_size=9
)


@given(some_games, st.integers(1, 15), st.integers(1, 70))
def test_every_width_reports_what_playing_one_after_another_does(games, max_steps, total_steps):
    policy = Scripted(lambda obs, mask: 0)
    found = []
    for width in range(1, 6):
        envs = Games(games, width)
        played = evaluate(
            policy, envs, episodes=len(games), seed=SEED, gamma=GAMMA, max_steps=max_steps, total_steps=total_steps
        )  # fmt: skip
        assert envs.steps <= total_steps
        found.append((columns(played), played.limit))
    assert all(other == found[0] for other in found)
    expected = one_after_another(games, max_steps, total_steps)
    returns, lengths, discounted, capped, _ = found[0][0]
    assert list(zip(returns, lengths, capped, strict=True)) == [(r, n, c) for r, n, _, c in expected]
    np.testing.assert_allclose(discounted, [d for *_, d, _ in expected], rtol=1e-12, atol=1e-12)
    whole = one_after_another(games, max_steps, 10**6)
    assert (found[0][1] or "").endswith("had begun") == (whole != expected)


def test_a_limit_that_cuts_nothing_changes_nothing():
    games = [Game([1.0, 2.0]), Game([], endless=True), Game([3.0])]
    policy = Scripted(lambda obs, mask: 0)
    cut, whole = (
        evaluate(policy, Games(games, 2), episodes=3, seed=SEED, max_steps=4, total_steps=total)
        for total in (7, None)  # 2 + 4 + 1
    )
    assert columns(cut) == columns(whole)
    assert cut.limit == whole.limit == "4 steps an episode"


def test_an_episode_played_ahead_is_cut_afterwards():
    """Episode 1 is over, with 3 steps, long before episode 0 has shown that 2 steps are left for it."""
    games = [Game([1.0] * 6), Game([10.0, 20.0, 40.0]), Game([7.0])]
    for width in (1, 2, 3):
        played = evaluate(
            Scripted(lambda obs, mask: 0),
            Games(games, width),
            episodes=3,
            seed=SEED,
            gamma=0.5,
            total_steps=8,
        )
        assert played.returns.tolist() == [6.0, 30.0]
        assert played.lengths.tolist() == [6, 2]
        assert played.discounted_returns[1] == 20.0  # 10 + 20 / 2
        assert played.capped.tolist() == [False, True]


def test_episode_that_begins_where_the_steps_run_out_is_left_out():
    games = [Game([1.0, 1.0]), Game([5.0])]
    played = evaluate(Scripted(lambda obs, mask: 0), Games(games, 2), episodes=2, seed=SEED, total_steps=2)
    assert played.returns.tolist() == [2.0]
    assert not played.capped.any()
    assert played.limit == "2 steps in all, after which 1 of 2 episodes had begun"


def test_rewards_kept_are_bounded_by_the_limit():
    """Episode 0 goes on while four others are played ahead in turn: 5 rewards a step, of which few may matter."""
    total, episodes = 200, 1000
    budget = StepBudget(total, episodes)
    lengths, over = np.zeros(episodes, int), np.zeros(episodes, bool)
    for step in range(total):
        numbers = np.array([0, *range(4 * (step // 3) + 1, 4 * (step // 3) + 5)])
        lengths[numbers] += 1
        over[numbers[1:]] = step % 3 == 2
        budget.record(numbers, np.ones(5))
        assert budget.has_run_out(lengths, over) == (step == total - 1)
        assert sum(map(len, budget._rewards.values())) <= 2 * total
    assert budget.rewards(0).tolist() == [1.0] * total


def test_limit_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="total_steps must be at least 1, got 0"):
        StepBudget(0, 3)

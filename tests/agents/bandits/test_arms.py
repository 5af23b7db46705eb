"""What is known of arms and how they are explored: numbers computed by hand, and laws of large numbers."""

from __future__ import annotations

from math import e, inf, log, sqrt

import numpy as np
import pytest
from scipy import stats

from rl_lab.agents.bandits import (
    EpsilonGreedyConfig,
    GradientConfig,
    MeanArms,
    PosteriorArms,
    PreferenceArms,
    ThompsonConfig,
    UCBConfig,
    UpperConfidenceArms,
)
from rl_lab.agents.bandits.arms import softmax
from rl_lab.types import UsageError


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def pulled(arms, *pulls, mask=None):
    """Let arms learn from (arm, reward) pairs, one at a time."""
    for arm, reward in pulls:
        arms.learn(np.array([arm]), np.array([float(reward)]), mask)
    return arms


class TestMeans:
    def test_are_those_of_all_pulls(self):
        arms = pulled(
            MeanArms(EpsilonGreedyConfig(initial_value=9.0), 3, rng()), (0, 4), (0, 1), (2, -2), (0, 1)
        )
        assert arms.scores() == pytest.approx([2.0, 9.0, -2.0])
        assert arms.weights["pulls"].tolist() == [3, 0, 1]

    def test_with_a_step_size_recent_pulls_weigh_more(self):
        arms = pulled(
            MeanArms(EpsilonGreedyConfig(step_size=0.5, initial_value=8.0), 1, rng()), (0, 4), (0, 0)
        )
        assert arms.scores().tolist() == [3.0]  # 8 -> 6 -> 3

    def test_several_pulls_at_once_count_one_after_the_other(self):
        config = EpsilonGreedyConfig(step_size=0.5)
        arms = MeanArms(config, 2, rng())
        error = arms.learn(np.array([1, 1]), np.array([4.0, 4.0]), None)
        assert arms.scores().tolist() == [0.0, 3.0]
        assert error == 3.0  # 4, then 2


class TestUpperConfidence:
    def arms(self, confidence=2.0):
        arms = UpperConfidenceArms(UCBConfig(confidence=confidence), 3, rng())
        return pulled(arms, (0, 1.0), (0, 1.0), (1, 0.0), (2, 0.5), (2, 0.5), (2, 0.5))

    def test_bonuses_are_those_computed_by_hand(self):
        """The seventh pull: c sqrt(ln 7 / n)."""
        bonus = self.arms()._bonus(self.arms().weights["pulls"].astype(float))
        assert bonus == pytest.approx([2 * sqrt(log(7) / 2), 2 * sqrt(log(7)), 2 * sqrt(log(7) / 3)])

    @pytest.mark.parametrize(("confidence", "arm"), [(0.0, 0), (1.0, 0), (3.0, 1)])
    def test_the_arm_that_could_be_best_is_chosen(self, confidence, arm):
        """Bounds with c = 1: 1.986, 1.395, 1.305; with c = 3: 3.959, 4.185, 2.916."""
        arms = self.arms(confidence)
        assert arms.choose(arms.scores()[None], None).tolist() == [arm]

    def test_untried_arms_come_first_whatever_their_estimate(self):
        arms = pulled(UpperConfidenceArms(UCBConfig(initial_value=-99.0), 3, rng()), (1, 50.0))
        assert set(arms.choose(np.tile(arms.scores(), (2, 1)), None).tolist()) == {0, 2}

    def test_environments_that_choose_together_count_each_others_choices(self):
        arms = UpperConfidenceArms(UCBConfig(), 4, rng())
        assert sorted(arms.choose(np.zeros((4, 4)), None).tolist()) == [0, 1, 2, 3]

    def test_illegal_arms_are_never_chosen(self):
        arms = pulled(UpperConfidenceArms(UCBConfig(), 3, rng()), (1, 50.0))
        mask = np.array([[False, True, False]] * 3)
        assert arms.choose(np.tile(arms.scores(), (3, 1)), mask).tolist() == [1, 1, 1]

    def test_no_bonus_without_pulls_is_finite(self):
        assert UpperConfidenceArms(UCBConfig(), 2, rng())._bonus(np.array([0.0, 1.0]))[0] == inf


class TestPreferences:
    def test_one_step_is_that_computed_by_hand(self):
        """The first reward is its own baseline; the second, 5, is 3 above that."""
        arms = pulled(PreferenceArms(GradientConfig(step_size=0.5), 2, rng()), (0, 2.0))
        assert arms.scores().tolist() == [0.0, 0.0]
        assert pulled(arms, (0, 5.0)).scores().tolist() == [0.5 * 3 * 0.5, -0.5 * 3 * 0.5]
        assert arms.weights["reward_mean"].tolist() == [3.5]

    def test_without_a_baseline_rewards_are_compared_with_0(self):
        arms = pulled(PreferenceArms(GradientConfig(step_size=0.5, baseline=False), 2, rng()), (1, 2.0))
        assert arms.scores().tolist() == [-0.5, 0.5]

    def test_arms_are_drawn_from_the_softmax(self):
        arms = PreferenceArms(GradientConfig(), 3, rng())
        arms.weights["preference"][...] = [0.0, 1.0, 2.0]
        drawn = arms.choose(np.tile(arms.scores(), (4_000, 1)), None)
        expected = np.array([1, e, e * e]) / (1 + e + e * e)
        assert stats.chisquare(np.bincount(drawn, minlength=3), 4_000 * expected).pvalue > 0.001

    def test_illegal_arms_have_probability_0(self):
        p = softmax(np.array([[0.0, 1.0, 800.0]]), np.array([[True, True, False]]))
        assert p[0] == pytest.approx([1 / (1 + e), e / (1 + e), 0.0])
        arms = PreferenceArms(GradientConfig(), 3, rng())
        mask = np.tile([False, True, False], (50, 1))
        assert set(arms.choose(np.zeros((50, 3)), mask)) == {1}

    def test_the_mean_step_is_the_gradient_of_the_expected_reward(self):
        """Over all arms, weighted with their probability: d/dh sum p r = p (r - sum p r)."""
        reward, p = np.array([1.0, 4.0, -2.0]), softmax(np.array([[0.3, -0.2, 0.5]]), None)[0]
        mean = np.zeros(3)
        for arm in range(3):
            arms = PreferenceArms(GradientConfig(step_size=1.0), 3, rng())
            arms.weights["preference"][...] = [0.3, -0.2, 0.5]
            arms.weights["reward_mean"][...], arms.weights["pulls"][...] = 0.7, 1
            mean += p[arm] * (pulled(arms, (arm, reward[arm])).scores() - [0.3, -0.2, 0.5])
        assert mean == pytest.approx(p * (reward - p @ reward))


class TestPosteriors:
    def test_normal_ones_are_those_computed_by_hand(self):
        """Prior 1 with std 2, noise 0.5: after two pulls the precision is 1/4 + 2 * 4."""
        config = ThompsonConfig(prior_mean=1.0, prior_std=2.0, noise_std=0.5)
        arms = pulled(PosteriorArms(config, 2, rng()), (0, 3.0), (0, 5.0))
        mean, std = arms.normal()
        assert mean == pytest.approx([(0.25 * 1 + 4 * 8) / 8.25, 1.0])
        assert std == pytest.approx([1 / sqrt(8.25), 2.0])
        assert arms.scores() == pytest.approx(mean)

    def test_beta_ones_count_successes_and_failures(self):
        config = ThompsonConfig(rewards="bernoulli", prior_successes=2.0, prior_failures=3.0)
        arms = pulled(PosteriorArms(config, 2, rng()), (0, 1), (0, 1), (0, 0))
        assert [list(part) for part in arms.beta()] == [[4.0, 2.0], [4.0, 3.0]]
        assert arms.scores() == pytest.approx([0.5, 0.4])

    @pytest.mark.parametrize("rewards", ["normal", "bernoulli"])
    def test_an_arm_is_chosen_as_often_as_it_is_best(self, rewards):
        arms = PosteriorArms(ThompsonConfig(rewards=rewards), 2, rng())
        pulled(arms, (0, 1), (0, 0), (0, 1), (1, 1))
        share = np.mean(arms.choose(np.zeros((4_000, 2)), None) == 0)
        if rewards == "normal":  # N(2/4, 1/4) against N(1/2, 1/2)
            assert share == pytest.approx(0.5, abs=0.03)
        else:  # Beta(3, 2) against Beta(2, 1): P(x > y) = E[x^2] = 3 * 4 / (5 * 6)
            assert share == pytest.approx(0.4, abs=0.03)

    def test_illegal_arms_are_never_chosen(self):
        arms = pulled(PosteriorArms(ThompsonConfig(), 2, rng()), (0, 1e6))
        assert arms.choose(np.zeros((9, 2)), np.tile([False, True], (9, 1))).tolist() == [1] * 9

    def test_rewards_that_no_coin_pays_are_refused_in_a_line(self):
        arms = PosteriorArms(ThompsonConfig(rewards="bernoulli"), 2, rng())
        with pytest.raises(UsageError, match=r"must be 0 or 1, got 0\.5 \(allowed: normal\)"):
            pulled(arms, (0, 0.5))
        assert not arms.weights["pulls"].any()

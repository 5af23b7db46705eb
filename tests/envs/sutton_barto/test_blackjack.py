"""Blackjack: the policy of the book's figure, exact values, and agreement with hands that are played."""

from __future__ import annotations

from functools import cache

import gymnasium
import numpy as np
import pytest

from rl_lab.envs.sutton_barto.blackjack import show_hands
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import Solution, value_iteration
from tabular_envs import make, model_of


@cache
def solved_blackjack(natural: bool = False, sab: bool = True) -> tuple[TabularModel, Solution]:
    model = model_of("Blackjack", natural=natural, sab=sab)
    return model, value_iteration(model, 1.0)


def assert_mean_return(env, act, episodes: int, seed: int, expected: float) -> None:
    """Play episodes whose reward comes at their end, and compare the mean return with what is expected."""
    obs, _ = env.reset(seed=seed)
    returns = []
    while len(returns) < episodes:
        obs, reward, terminated, _, _ = env.step(act(obs))
        if terminated:
            returns.append(reward)
            obs, _ = env.reset()
    error = np.std(returns) / np.sqrt(len(returns))
    assert abs(np.mean(returns) - expected) < 4 * error


def least_stick(usable: int) -> list[int]:
    """The least sum of 11 or more from which one sticks, for each card 1..10 of the dealer."""
    model, solution = solved_blackjack()
    hands = show_hands(np.arange(model.num_states))
    least = []
    for dealer in range(1, 11):
        mine = (hands[:, 1] == dealer) & (hands[:, 2] == usable) & (hands[:, 0] <= 21) & (hands[:, 0] > 10)
        sticks = {int(s) for s in hands[mine & (solution.policy == 0), 0]}
        assert sticks == set(range(min(sticks), 22))  # one boundary
        least.append(min(sticks))
    return least


class TestBlackjack:
    def test_policy_is_that_of_figure_5_2(self):
        assert least_stick(usable=0) == [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]
        assert least_stick(usable=1) == [19, 18, 18, 18, 18, 18, 18, 18, 19, 19]  # with the notch at the ace

    @pytest.mark.parametrize(
        ("rules", "value"), [((False, True), -0.04311), ((False, False), -0.04656), ((True, False), -0.02573)]
    )
    def test_value_of_the_deal(self, rules, value):
        model, solution = solved_blackjack(*rules)
        assert model.initial @ solution.v == pytest.approx(value, abs=5e-6)

    def test_two_hundred_thousand_hands_agree_with_the_value(self):
        model, solution = solved_blackjack()
        env = make("Blackjack").unwrapped
        policy = solution.policy.tolist()
        assert_mean_return(env, policy.__getitem__, 200_000, 5, model.initial @ solution.v)

    def test_gymnasiums_game_agrees_with_the_value(self):
        """Theirs deals cards one by one, which ours never does."""
        model, solution = solved_blackjack()
        hands = show_hands(np.arange(model.num_states))
        policy = {tuple(hand): int(a) for hand, a in zip(hands.tolist(), solution.policy, strict=True)}
        env = gymnasium.make("Blackjack-v1", sab=True).unwrapped
        assert_mean_return(
            env, lambda hand: policy[tuple(int(x) for x in hand)], 20_000, 1, model.initial @ solution.v
        )

    def test_deal_by_hand(self):
        initial = solved_blackjack()[0].initial.reshape(10, 39)
        assert initial[:, 38].sum() == pytest.approx(2 * (1 / 13) * (4 / 13))  # naturals
        assert initial[9].sum() == pytest.approx(4 / 13)  # the dealer shows a ten
        assert initial[:, 28].sum() == pytest.approx(1 / 169)  # two aces: a soft 12
        assert initial[:, 18:28].sum() == 0  # two cards are never above 21

    def test_a_natural_pays_by_the_rules(self):
        """The dealer shows a 5: no natural there, but 21 now and then."""
        natural = 39 * 4 + 38
        pays = {rules: model_of("Blackjack", **rules_of(rules)) for rules in ("sab", "natural", "plain")}
        expected = {name: model.expected_reward[natural, 0] for name, model in pays.items()}
        assert expected["sab"] == pytest.approx(1.0)
        assert 0.8 < expected["plain"] < 1.0
        assert expected["natural"] == pytest.approx(1.5 * expected["plain"])

    def test_shows_hands_as_gymnasium_does(self):
        env = make("Blackjack", observation="tuple")
        seen = {tuple(env.reset(seed=seed)[0].tolist()) for seed in range(300)}
        assert all(obs in env.observation_space for obs in map(np.array, seen))
        assert {ace for _, _, ace in seen} == {0, 1}
        assert {dealer for _, dealer, _ in seen} == set(range(1, 11))


def rules_of(name: str) -> dict[str, bool]:
    return {"sab": name == "sab", "natural": name == "natural"}

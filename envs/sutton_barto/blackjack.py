"""Blackjack as in example 5.1, with the rules of Gymnasium's Blackjack-v1 and an exact model."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np
from gymnasium import spaces

from rl_lab.envs.checks import require_flag
from rl_lab.envs.drawing.picture import Picture
from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel, show_index
from rl_lab.types import Array

CARDS = {
    card: (4.0 if card == 10 else 1.0) / 13.0 for card in range(1, 11)
}  # probabilities; card 1 is the ace
STICK, HIT = 0, 1
Hand = tuple[int, int]  # (sum, 1 with a usable ace or 0)
# States come in one block per card that the dealer shows: the hands below, then the natural.
HANDS: list[Hand] = [(total, 0) for total in range(4, 32)] + [(total, 1) for total in range(12, 22)]
NATURAL = len(HANDS)  # 21 with the first two cards
BLOCK = NATURAL + 1
NUMBER = {hand: number for number, hand in enumerate(HANDS)}


class Blackjack(TabularEnv):
    """Hit (1) or stick (0) so as to come closer to 21 than the dealer, who sticks on 17 or more.

    Cards come from an infinite deck. Winning pays 1, losing -1 and a draw 0; a sum above 21 loses at once. The
    rules are those of Gymnasium's Blackjack-v1. `sab` follows the book: a natural (ace and ten) wins unless the
    dealer has one too. `natural` pays 1.5 for a natural that wins, and has no effect if `sab` is set. With neither,
    a natural is like any other 21.

    A state is 39 * (dealer's card - 1) plus the number of the hand: sums 4..31 without a usable ace, then 12..21
    with one, then the natural, which needs a state of its own because its reward differs. With `observation`
    "tuple", observations are int64 [3] (sum, dealer's card, usable ace) as in Gymnasium, and the natural looks like
    any other 21 with a usable ace. The distribution of the deal is exact.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 5.1; the optimal policy is
    in example 5.3 (figure 5.2).
    """

    def __init__(
        self,
        *,
        natural: bool = False,
        sab: bool = True,
        observation: str = "index",
        render_mode: str | None = None,
    ) -> None:
        """Make the game. Raises ValueError unless `observation` is "index" or "tuple"."""
        if observation not in ("index", "tuple"):
            raise ValueError(f"observation {observation!r} must be 'index' or 'tuple'")
        natural, sab = require_flag("natural", natural), require_flag("sab", sab)
        space = None if observation == "index" else spaces.MultiDiscrete([32, 11, 2])
        model = _make_model(natural, sab, observation)
        super().__init__(model, render_mode=render_mode, observation_space=space)

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, in their order."""
        return ["stick", "hit"]

    def _make_picture(self) -> Picture:
        from rl_lab.envs.drawing.sutton_barto_panels import blackjack_panel

        return blackjack_panel(show_hands(np.arange(self._model.num_states)))


def show_hands(states: Array) -> Array:
    """Return (sum, dealer's card, usable ace) of states int [K], as int64 [K, 3]."""
    dealer, number = np.divmod(states, BLOCK)
    hands = np.array([*HANDS, (21, 1)])[number]  # [K, 2]
    return np.stack((hands[:, 0], dealer + 1, hands[:, 1]), axis=1)


def add_card(hand: Hand, card: int) -> Hand:
    """Return the hand after one more card."""
    total, usable = hand
    total, usable = (total + 11, 1) if card == 1 and total + 11 <= 21 else (total + card, usable)
    return (total - 10, 0) if total > 21 and usable else (total, usable)


@lru_cache(maxsize=256)
def finish_dealer(hand: Hand) -> dict[int, float]:
    """Return the probability of each final sum of a dealer with this hand; 0 stands for any sum above 21."""
    if hand[0] >= 17:
        return {hand[0] if hand[0] <= 21 else 0: 1.0}
    sums: dict[int, float] = defaultdict(float)
    for card, chance in CARDS.items():
        for total, p in finish_dealer(add_card(hand, card)).items():
            sums[total] += chance * p
    return dict(sums)


@lru_cache(maxsize=8)
def _make_model(natural: bool, sab: bool, observation: str) -> TabularModel:
    rows: list[tuple] = []
    for dealer in CARDS:
        base = BLOCK * (dealer - 1)
        for number in range(BLOCK):
            state = base + number
            hand = (21, 1) if number == NATURAL else HANDS[number]
            if hand[0] > 21:
                rows += [(state, action, 1.0, state, 0.0, True) for action in (STICK, HIT)]
                continue
            payoffs = _stick_rewards(hand[0], dealer, number == NATURAL, natural, sab)
            rows += [(state, STICK, p, state, reward, True) for reward, p in payoffs.items()]
            rows += _hit_rows(state, base, hand)
    observe = show_index if observation == "index" else show_hands
    return TabularModel.from_outcomes(rows, BLOCK * len(CARDS), 2, _deal(), observe=observe)


def _hit_rows(state: int, base: int, hand: Hand) -> list[tuple]:
    """Return the outcomes of drawing one more card."""
    after = [(add_card(hand, card), chance) for card, chance in CARDS.items()]
    return [
        (state, HIT, chance, base + NUMBER[new], -float(new[0] > 21), new[0] > 21) for new, chance in after
    ]


def _stick_rewards(total: int, dealer: int, is_natural: bool, natural: bool, sab: bool) -> dict[float, float]:
    """Return the probability of each reward for sticking."""
    chances: dict[float, float] = defaultdict(float)
    for card, chance in CARDS.items():
        dealer_natural = {dealer, card} == {1, 10}
        for theirs, p in finish_dealer(add_card(add_card((0, 0), dealer), card)).items():
            reward = float(total > theirs) - float(total < theirs)
            if is_natural and sab and not dealer_natural:
                reward = 1.0
            elif is_natural and natural and not sab and reward == 1.0:
                reward = 1.5
            chances[reward] += chance * p
    return dict(chances)


def _deal() -> Array:
    """Return the distribution float64 [S] of the player's first two cards and the card that the dealer shows."""
    initial = np.zeros(BLOCK * len(CARDS))
    for dealer, p_dealer in CARDS.items():
        for one, p_one in CARDS.items():
            for two, p_two in CARDS.items():
                hand = add_card(add_card((0, 0), one), two)
                number = NATURAL if {one, two} == {1, 10} else NUMBER[hand]
                initial[BLOCK * (dealer - 1) + number] += p_dealer * p_one * p_two
    return initial

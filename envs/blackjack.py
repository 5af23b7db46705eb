"""Blackjack as in example 5.1, with the rules of Gymnasium's Blackjack-v1 and an exact model."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from rl_lab.envs.tabular import TabularEnv
from rl_lab.mdp.model import TabularModel, show_index
from rl_lab.types import Array

if TYPE_CHECKING:
    from rl_lab.envs.canvas import Panel

CARDS = {card: (4.0 if card == 10 else 1.0) / 13.0 for card in range(1, 11)}  # an ace counts as card 1
STICK, HIT = 0, 1
Hand = tuple[int, int]  # sum, usable ace
# One block per card that the dealer shows: hands without and with a usable ace, and the natural.
HANDS: list[Hand] = [(total, 0) for total in range(4, 32)] + [(total, 1) for total in range(12, 22)]
NATURAL = len(HANDS)  # 21 with the first two cards, which pays apart
BLOCK = NATURAL + 1
NUMBER = {hand: number for number, hand in enumerate(HANDS)}


class Blackjack(TabularEnv):
    """Draw cards (1) or stick (0), so as to come closer to 21 than the dealer, who sticks on 17 or more.

    Cards come from an infinite deck. Winning pays 1, losing -1, a draw 0; a sum above 21 loses at
    once. As in Gymnasium's Blackjack-v1, `sab` follows the book, in which a natural (ace and ten)
    wins unless the dealer has one too, and outranks `natural`, which pays 1.5 for a natural that
    wins. With neither, a natural is a 21 like others.

    A state is 39 * (dealer's card - 1) plus the hand's number: sums 4..31 without a usable ace,
    12..21 with one, and the natural, which is a state of its own since it pays apart. With
    `observation` "tuple" one sees int64 [3] (sum, dealer's card, usable ace), as in Gymnasium, where
    the natural looks like any 21 with a usable ace. The distribution of the deal is exact.

    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., example 5.1 (5.3,
    figure 5.2, has the optimal policy).
    """

    def __init__(
        self,
        *,
        natural: bool = False,
        sab: bool = True,
        observation: str = "index",
        render_mode: str | None = None,
    ) -> None:
        if observation not in ("index", "tuple"):
            raise ValueError(f"observation {observation!r} must be 'index' or 'tuple'")
        space = None if observation == "index" else spaces.MultiDiscrete([32, 11, 2])
        model = _make_model(natural, sab, observation)
        super().__init__(model, render_mode=render_mode, observation_space=space)

    def _make_picture(self) -> Panel:
        from rl_lab.envs.panels import blackjack_panel

        return blackjack_panel(show_hands(np.arange(self._model.num_states)))


def show_hands(states: Array) -> Array:
    """Return (sum, dealer's card, usable ace) of states [K], int64 [K, 3]."""
    dealer, number = np.divmod(states, BLOCK)
    hands = np.array([*HANDS, (21, 1)])[number]  # [K, 2]
    return np.stack((hands[:, 0], dealer + 1, hands[:, 1]), axis=1)


def add_card(hand: Hand, card: int) -> Hand:
    """Return a hand after another card."""
    total, usable = hand
    total, usable = (total + 11, 1) if card == 1 and total + 11 <= 21 else (total + card, usable)
    return (total - 10, 0) if total > 21 and usable else (total, usable)


@lru_cache(maxsize=256)
def finish_dealer(hand: Hand) -> dict[int, float]:
    """Return the distribution of the sum with which the dealer ends; 0 if above 21."""
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
            payoffs = _pay(hand[0], dealer, number == NATURAL, natural, sab)
            rows += [(state, STICK, p, state, reward, True) for reward, p in payoffs.items()]
            rows += _hit(state, base, hand)
    observe = show_index if observation == "index" else show_hands
    return TabularModel.from_outcomes(rows, BLOCK * len(CARDS), 2, _deal(), observe=observe)


def _hit(state: int, base: int, hand: Hand) -> list[tuple]:
    after = [(add_card(hand, card), chance) for card, chance in CARDS.items()]
    return [
        (state, HIT, chance, base + NUMBER[new], -float(new[0] > 21), new[0] > 21) for new, chance in after
    ]


def _pay(total: int, dealer: int, is_natural: bool, natural: bool, sab: bool) -> dict[float, float]:
    """Return the distribution of what sticking pays."""
    pays: dict[float, float] = defaultdict(float)
    for card, chance in CARDS.items():
        rival = {dealer, card} == {1, 10}
        for theirs, p in finish_dealer(add_card(add_card((0, 0), dealer), card)).items():
            reward = float(total > theirs) - float(total < theirs)
            if is_natural and sab and not rival:
                reward = 1.0
            elif is_natural and natural and not sab and reward == 1.0:
                reward = 1.5
            pays[reward] += chance * p
    return dict(pays)


def _deal() -> Array:
    """Return the distribution [S] of the two first cards and the dealer's one."""
    initial = np.zeros(BLOCK * len(CARDS))
    for dealer, p_dealer in CARDS.items():
        for one, p_one in CARDS.items():
            for two, p_two in CARDS.items():
                hand = add_card(add_card((0, 0), one), two)
                number = NATURAL if {one, two} == {1, 10} else NUMBER[hand]
                initial[BLOCK * (dealer - 1) + number] += p_dealer * p_one * p_two
    return initial

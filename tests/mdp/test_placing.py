"""Steps from states that were set show what play doesn't come to, and never blame a true model."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

import rl_lab.envs  # noqa: F401  registers lab/*
from odd_models import RichGoal, Steered, TurnedCorner
from rl_lab.envs.gridworld import GridWorld
from rl_lab.mdp.agreement import find_disagreement
from rl_lab.mdp.model import extract_model
from rl_lab.mdp.placing import place, setter_of

TRUE = [
    ("FrozenLake-v1", {}), ("FrozenLake-v1", {"is_slippery": False}), ("FrozenLake8x8-v1", {}),
    ("FrozenLake-v1", {"success_rate": 0.6}), ("CliffWalking-v1", {}), ("CliffWalking-v1", {"is_slippery": True}),
    ("Taxi-v4", {}), ("Taxi-v4", {"is_rainy": True}), ("lab/GridWorld-v0", {"slip": 0.2}),
    ("lab/GridWorldPixels-v0", {"slip": 0.1}), ("lab/WindyGrid-v0", {"stochastic": True}), ("lab/Catch-v0", {}),
    ("lab/Blackjack-v0", {}), ("lab/DeepSea-v0", {}), ("lab/Gambler-v0", {}), ("lab/Garnet-v0", {}),
]  # fmt: skip


def both(env, steps=3000, seed=0):
    return place(env, extract_model(env), seed, steps)


@pytest.mark.parametrize(("env_id", "kwargs"), TRUE)
def test_a_true_model_allows_every_step_from_every_state(env_id, kwargs):
    env = gymnasium.make(env_id, **kwargs)
    for seed in range(3):
        placed = both(env, seed=seed)
        assert placed.fits.all()
        assert placed.improbable() is None
        dense = env_id in ("lab/Gambler-v0", "lab/Garnet-v0")  # almost any state is a neighbour of any other
        assert placed.works is not dense


def test_every_reachable_pair_is_tried_and_no_other():
    placed = both(gymnasium.make("CliffWalking-v1"))
    assert sorted(placed.row) == list(range(37 * 4))  # neither the cliff nor the goal
    taxi = both(gymnasium.make("Taxi-v4"))
    assert extract_model(gymnasium.make("Taxi-v4")).available.ravel()[taxi.row].all()
    assert len(set((taxi.row // 6).tolist())) == 400
    assert len(both(gymnasium.make("Taxi-v4"), steps=50).row) == 50


class CostlyCorner(CliffWalkingEnv):
    """One state costs more to leave."""

    def step(self, action):
        was = self.s
        obs, reward, *rest = super().step(action)
        return obs, reward - (was == 11), *rest


class GenerousTaxi(TaxiEnv):
    """The last step pays more."""

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, 25.0 if reward == 20 else reward, *rest


class ShortcutWorld(GridWorld):
    """In one cell all moves stay."""

    def step(self, action):
        was = self._state
        obs, *rest = super().step(action)
        if was != 40:
            return obs, *rest
        self._state = was
        return was, *rest


@pytest.mark.parametrize("make", [RichGoal, TurnedCorner, CostlyCorner, GenerousTaxi, ShortcutWorld], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_remote_faults_are_found(make, seed):
    env = make()
    placed = both(env, seed=seed)
    assert placed.works
    wrong = [text for _, text in placed.objections()]
    assert wrong
    assert "; the model allows state" in find_disagreement(env, extract_model(env), seed=seed)


def test_a_wrong_state_that_play_does_not_reach_is_named_all_the_same(monkeypatch):
    monkeypatch.setattr("rl_lab.mdp.agreement.GUIDED_STEPS", 0)
    monkeypatch.setattr("rl_lab.mdp.agreement.LOOKING_STEPS", 0)
    env = RichGoal()
    assert "reward 5, the end; the model allows" in find_disagreement(env, extract_model(env))


def test_what_play_refutes_is_no_fault(monkeypatch):
    """Set to a state by itself, this one pays something else: a matter of setting, since play never shows it."""

    class Suspicious(FrozenLakeEnv):
        def step(self, action):
            was = self.s
            obs, reward, *rest = super().step(action)
            odd = was == 14 and was != getattr(self, "_reached", None)
            self._reached = self.s
            return obs, reward + odd, *rest

    env = Suspicious()
    placed = both(env)
    assert placed.works
    assert placed.objections()
    assert find_disagreement(env, extract_model(env)) is None


class Blind(FrozenLakeEnv):
    """In one state only, the middle outcome comes each time: the probabilities are wrong there alone."""

    def step(self, action):
        if self.s != 14:
            return super().step(action)
        _, self.s, reward, over = self.P[self.s][action][1]
        return int(self.s), float(reward), over, False, {}


def test_wrong_probabilities_of_a_single_state_are_found():
    placed = both(Blind())
    assert placed.fits.all()
    text = placed.improbable()
    assert text.startswith("outcomes don't come as often as the model says: state 14, action")
    assert "30 of 30 times with probability 0.333, 0 of 30 times with probability 0.667" in text
    env = Blind()
    assert "state 14" in find_disagreement(env, extract_model(env))


class TestSetters:
    def test_put_an_environment_into_a_state(self):
        for env_id in ("FrozenLake8x8-v1", "lab/GridWorld-v0", "lab/DynaMaze-v0", "lab/WindyGrid-v0"):
            env = gymnasium.make(env_id)
            env.reset(seed=0)
            setter_of(env)(17)
            model = extract_model(env)
            row = 17 * model.num_actions
            assert env.step(0)[0] in model.successor[model.indptr[row] : model.indptr[row + 1]]

    def test_are_not_there_for_others(self):
        cart = gymnasium.make("CartPole-v1")
        cart.reset()
        assert setter_of(cart) is None
        cards = gymnasium.make("Blackjack-v1")
        cards.reset()
        assert setter_of(cards) is None

    def test_without_effect_prove_nothing(self):
        assert not both(Steered()).works

    def test_that_fail_are_not_used(self):
        class Locked(FrozenLakeEnv):
            def step(self, action):
                if getattr(self, "_true", self.s) != self.s:
                    raise RuntimeError("tampered with")
                answer = super().step(action)
                self._true = self.s
                return answer

            def reset(self, **kwargs):
                answer = super().reset(**kwargs)
                self._true = self.s
                return answer

        env = Locked()
        assert both(env) is None
        assert find_disagreement(env, extract_model(env)) is None


def test_the_environment_is_left_freshly_reset():
    env = gymnasium.make("FrozenLake8x8-v1")
    find_disagreement(env, extract_model(env), seed=3)
    assert env.unwrapped.s == 0
    draws = [env.step(2)[0] for _ in range(10)]
    env.reset(seed=3)
    assert [env.step(2)[0] for _ in range(10)] == draws


def test_no_pair_is_left_out_of_a_small_budget_at_random():
    one, other = both(gymnasium.make("Taxi-v4"), 40, seed=1), both(gymnasium.make("Taxi-v4"), 40, seed=2)
    assert not np.array_equal(one.row, other.row)

"""Compares a model with the environment that it is said to describe, on transitions that are played.

A subclass may override `step` and inherit its parent's model. A few hundred steps of random play show most such
models to be wrong in milliseconds, by an outcome that they don't allow or by outcomes that come far too often.
What random play seldom meets is sought in two ways: play follows plans made with the model, to rare outcomes and far
states; and where the environment's state can be set, a step is taken from every state by every action. None of
this can show that a model is right.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.mdp.following import Follower, brief
from rl_lab.mdp.guide import MAX_OUTCOMES, Guide, Plan
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.placing import Placed, place
from rl_lab.types import Array

STEPS, PLACED_STEPS = 300, 3000
GUIDED_STEPS = 2400  # at most
MAX_STARTS = 100_000  # a model that may start in more states isn't compared, since that would take seconds
SUSPECTS = 3  # rows from which a placed step went wrong that play goes to see for itself
LOOKING_STEPS = 600  # for each of them
ENOUGH = 10.0  # times that a wrong outcome should have come in play by then: it is a matter of placing


def find_disagreement(
    env: gymnasium.Env,
    model: TabularModel,
    *,
    steps: int = STEPS,
    placed_steps: int = PLACED_STEPS,
    seed: int = 0,
) -> str | None:
    """Play, and return the first transition that the model doesn't allow, in words; None without one.

    Args:
        env: is reset and stepped, and left freshly reset.
        steps: of random play, before the rest.
        placed_steps: at most so many are taken from states that were set.
        seed: of the episodes and of the actions, which draw from no other generator.
    """
    if not isinstance(env.action_space, spaces.Discrete) or np.count_nonzero(model.initial) > MAX_STARTS:
        return None
    if model.num_actions != env.action_space.n:
        return f"the model has {model.num_actions} actions, the environment {env.action_space.n}"
    found = _Comparison(env, model, seed).run(steps, placed_steps)
    env.reset(seed=seed)
    return found


class _Comparison:
    """One comparison of an environment with its model."""

    def __init__(self, env: gymnasium.Env, model: TabularModel, seed: int):
        self._env, self._model, self._seed = env, model, seed
        self._rng, self._follower = np.random.default_rng(seed), Follower(model)
        self._episodes = 0  # so far, since outcomes are counted over all plays: no episode may come twice

    def run(self, steps: int, placed_steps: int) -> str | None:
        """Return in words the first thing that is wrong, or None."""
        wrong = self._play(lambda state, actions: int(self._rng.choice(actions)), steps)
        if wrong is None and len(self._model.successor) <= MAX_OUTCOMES:
            guide = Guide(self._model, self._rng)
            wrong = self._play(guide.choose, GUIDED_STEPS, lambda: guide.done) or self._placed(placed_steps)
        return wrong or self._follower.improbable()

    def _play(
        self, choose: Callable[[int, Array], int], steps: int, over: Callable[[], bool] = lambda: False
    ) -> str | None:
        """Play until something is wrong, for some steps, or until `over`; return what was wrong in words, or None.

        Args:
            choose: returns an action, given the state (a possible one where several look alike) and the legal actions.
        """
        env, follower, done = self._env, self._follower, True
        first = int(env.action_space.start)  # type: ignore[attr-defined]
        for _ in range(steps):
            if done:
                obs, info = env.reset(seed=self._seed + self._episodes)
                self._episodes += 1
                if not follower.start(obs):
                    return f"reset shows {brief(obs)}, in which the model starts with probability 0"
            action = choose(follower.states[0], follower.actions(info.get("action_mask")))
            obs, reward, terminated, truncated, info = env.step(action + first)
            if (wrong := follower.follow(action, obs, float(reward), bool(terminated))) is not None:
                return wrong
            done = terminated or truncated
            if over():
                break
        return None

    def _placed(self, steps: int) -> str | None:
        """Return in words what is wrong with steps from states that were set.

        A wrong outcome counts if play meets it too; or if play doesn't come there, and setting states works.
        """
        placed = place(self._env, self._model, self._seed, steps)
        if placed is None:
            return None
        suspects = placed.objections()[:SUSPECTS]
        for row, _ in suspects:
            wrong, refuted = self._look_again(row, placed)
            if wrong is not None or refuted:
                return wrong
        if not placed.works:
            return None
        return suspects[0][1] if suspects else placed.improbable()

    def _look_again(self, row: int, placed: Placed) -> tuple[str | None, bool]:
        """Play towards a row; return what is wrong in words, and whether what came when placed doesn't come in play."""
        targets = np.zeros(self._model.available.size, bool)
        targets[row] = True
        plan, tries, share = Plan(self._model, targets), 0, placed.share(row)

        def choose(state: int, actions: Array) -> int:
            nonlocal tries
            action = plan.choose(state, actions, self._rng)
            tries += state * self._model.num_actions + action == row and len(self._follower.states) == 1
            return action

        wrong = self._play(choose, LOOKING_STEPS, lambda: tries * share >= ENOUGH)
        return wrong, wrong is None and tries * share >= ENOUGH

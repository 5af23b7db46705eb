"""One agent in one environment, a step at a time, with what it thinks before each step.

A picture costs more than a step, so it is drawn when it is shown (`Lane.scene`), not with each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.environments.actions import action_dtype
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector
from rl_lab.policies import for_episode
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.pictures import Picture, encoded
from rl_lab.watching.reasons import NO_REASONS, Reasons

MAX_STEPS = 100_000  # an episode that the environment doesn't end is cut here, as in `rl_lab.evaluate`

Explain = Callable[[Policy, Obs, State, Array, "Array | None", "Decision | None"], Mapping[str, Any]]
"""Returns the figures behind a decision as plain JSON; the decision is None where an episode has ended."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What an observation looks like, with the reasons of the decision about it where they are asked for."""

    picture: Picture
    reasons: str  # the method by which they were found; "" without
    contributions: Mapping[str, Any] | None = None  # of the numbers of a vector, as JSON


@dataclass(slots=True)
class Moment:
    """What there is to tell of one observation of an episode."""

    step: int  # steps taken before it
    insight: Mapping[str, Any]  # the figures behind the next action
    action: Any  # that is taken next, as plain numbers; None at the end
    reward: float | None  # of the step that led here; None at the beginning
    total: float  # return so far
    by: str  # who chose the step that led here: "agent", "human", "record", or "" at the beginning
    ended: str  # "", "terminated", "truncated", or "cut" after MAX_STEPS or where recorded actions end
    scene: Scene | None = None  # once it has been shown


class Lane:
    """Plays seeded episodes of one policy exactly as `rl_lab.evaluate` does.

    The policy is asked once at each observation, when it arrives, so that what it thinks is seen before it acts.

    Args:
        make: makes the environment, whose render_mode must be "rgb_array".
        explain: see `Explain`.
        encode: turns a frame uint8 [H, W, 3] into what `Scene.picture` holds.
        reasons: finds why a decision was made, where that is asked for.
    """

    def __init__(
        self,
        policy: Policy,
        make: Callable[[], gymnasium.Env],
        explain: Explain,
        *,
        encode: Callable[[Array], Picture] = encoded,
        max_steps: int = MAX_STEPS,
        reasons: Reasons = NO_REASONS,
    ):
        self.policy, self.make, self.explain, self.reasons = policy, make, explain, reasons
        self.envs = SingleVector(make())
        self.seed = 0
        self.actions: list[Array] = []  # of the open episode, each [...]
        self._encode, self._max_steps = encode, max_steps
        self._script: Sequence[Array] | None = None

    def twin(self) -> Lane:
        """Return another lane for the same policy in an environment of its own."""
        return Lane(
            self.policy,
            self.make,
            self.explain,
            encode=self._encode,
            max_steps=self._max_steps,
            reasons=self.reasons,
        )

    @property
    def action_space(self) -> gymnasium.Space:
        """The environment's."""
        return self.envs.single_action_space

    def illegal(self) -> list[int]:
        """Return the actions of a Discrete space that may not be taken next."""
        if self._mask is None or self._decision is None:
            return []
        assert isinstance(self.action_space, spaces.Discrete)
        return (np.flatnonzero(~self._mask[0]) + int(self.action_space.start)).tolist()

    def begin(self, seed: int, script: Sequence[Array] | None = None, *, explained: bool = True) -> Moment:
        """Start the episode of a seed.

        Args:
            script: actions, each [...], that are taken instead of the policy's.
            explained: ask for the figures behind the first decision, which the moment then holds.
        """
        self.seed, self._script, self.actions = seed, script, []
        self._obs, info = self.envs.reset(seed=[seed])
        self._mask, self._is_first = mask_of(info), np.ones(1, np.bool_)
        self._acting = for_episode(self.policy, seed)
        self._state, self._total = self._acting.initial_state(1), 0.0
        return self._moment(None, "", "", explained)

    def replace(self, policy: Policy) -> None:
        """Let another policy act from the next episode on; call it between episodes alone."""
        self.policy = policy

    def step(self, human: Any = None, *, explained: bool = True) -> Moment:
        """Take the next action, a human's if one is given; return what there is to tell then.

        Args:
            explained: as in `begin`.

        Raises:
            EnvironmentFault: the environment breaks its contract.
        """
        assert self._decision is not None, "the episode has ended"
        action, by = self._decision.action, "agent" if self._script is None else "record"
        if human is not None and self._script is None:
            assert human not in self.illegal()
            dtype = action_dtype(self.action_space)
            action, by = np.asarray([human], dtype), "human"
        self._obs, reward, terminated, truncated, info = self.envs.step(action)
        self.actions.append(np.array(action[0]))
        self._state, self._mask = self._decision.state, mask_of(info)
        self._is_first = terminated | truncated
        self._total += float(reward[0])
        ended = "terminated" if terminated[0] else "truncated" if truncated[0] else ""
        if not ended and self._is_cut():
            ended = "cut"
        return self._moment(float(reward[0]), by, ended, explained)

    def _is_cut(self) -> bool:
        return len(self.actions) >= (self._max_steps if self._script is None else len(self._script))

    def _moment(self, reward: float | None, by: str, ended: str, explained: bool) -> Moment:
        self._decision = None if ended else self._decided()
        insight = self.insight() if explained else {}
        action = None if self._decision is None else np.asarray(self._decision.action)[0].tolist()
        return Moment(len(self.actions), insight, action, reward, self._total, by, ended)

    @property
    def asked(self) -> tuple[Obs, State, Array, Array | None]:
        """What the policy is asked with at present: observation [1, ...], carry, is_first [1] and mask."""
        return self._obs, self._state, self._is_first, self._mask

    def insight(self) -> Mapping[str, Any]:
        """Return the figures behind the next decision."""
        return self.explain(self.policy, *self.asked, self._decision)

    def scene(self, method: str = "") -> Scene:
        """Draw the observation at which the lane stands.

        Args:
            method: one of `reasons.methods`, by which the reasons of the next decision are found; "" without. There
                are none at an episode's end, where nothing is decided.
        """
        frame = self.envs.env.picture()
        contributions = None
        if method in self.reasons.methods and self._decision is not None:
            frame, contributions = self.reasons.find(method, frame, self.policy, *self.asked)
        return Scene(self._encode(frame), method, contributions)

    def _decided(self) -> Decision:
        """Return what is done next. A memoryless policy isn't asked where a script says it: it may draw at random."""
        if self._script is None:
            return self._acting.act(self._obs, self._state, self._is_first, self._mask)
        recorded = np.asarray(self._script[len(self.actions)])[None]
        state: State = self._state
        if state != ():
            state = self._acting.act(self._obs, state, self._is_first, self._mask).state
        return Decision(recorded.astype(action_dtype(self.action_space)), state)

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

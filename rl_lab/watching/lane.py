"""One agent in one environment, a step at a time, with what it thinks before each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.actions import action_dtype
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.pictures import Picture, encoded

MAX_STEPS = 100_000  # an episode that the environment doesn't end is cut here, as in `rl_lab.evaluate`

Explain = Callable[[Policy, Obs, State, Array, "Array | None", "Decision | None"], Mapping[str, Any]]
"""Returns the figures behind a decision as plain JSON; the decision is None where an episode has ended."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to see at one observation of an episode."""

    step: int  # steps taken before it
    picture: Picture
    insight: Mapping[str, Any]  # the figures behind the next action
    action: Any  # that is taken next, as plain numbers; None at the end
    reward: float | None  # of the step that led here; None at the beginning
    total: float  # return so far
    by: str  # who chose the step that led here: "agent", "human", "record", or "" at the beginning
    ended: str  # "", "terminated", "truncated", or "cut" after MAX_STEPS or where recorded actions end


class Lane:
    """Plays seeded episodes of one policy exactly as `rl_lab.evaluate` does.

    The policy is asked once at each observation, when it arrives, so that what it thinks is seen before it acts.

    Args:
        make: makes the environment, whose render_mode must be "rgb_array".
        explain: see `Explain`.
        encode: turns a frame uint8 [H, W, 3] into what `Moment.picture` holds.
    """

    def __init__(
        self,
        policy: Policy,
        make: Callable[[], gymnasium.Env],
        explain: Explain,
        *,
        encode: Callable[[Array], Picture] = encoded,
        max_steps: int = MAX_STEPS,
    ):
        self.policy, self.make, self.explain = policy, make, explain
        self.envs = SingleVector(make())
        self.seed = 0
        self.actions: list[Array] = []  # of the open episode, each [...]
        self._encode, self._max_steps = encode, max_steps
        self._script: Sequence[Array] | None = None

    def twin(self) -> Lane:
        """Return another lane for the same policy in an environment of its own."""
        return Lane(self.policy, self.make, self.explain, encode=self._encode, max_steps=self._max_steps)

    @property
    def action_space(self) -> gymnasium.Space:
        """The environment's."""
        return self.envs.single_action_space

    def begin(self, seed: int, script: Sequence[Array] | None = None) -> Moment:
        """Start the episode of a seed; with a script its actions, each [...], are taken instead of the policy's."""
        self.seed, self._script, self.actions = seed, script, []
        self._obs, info = self.envs.reset(seed=[seed])
        self._mask, self._is_first = mask_of(info), np.ones(1, np.bool_)
        self._state, self._total = self.policy.initial_state(1), 0.0
        return self._moment(None, "", "")

    def replace(self, policy: Policy) -> None:
        """Let another policy act from the next episode on; call it between episodes alone."""
        self.policy = policy

    def step(self, human: Any = None) -> Moment:
        """Take the next action, a human's if one is given; return what there is to see then.

        Raises:
            EnvironmentFault: the environment breaks its contract.
        """
        assert self._decision is not None, "the episode has ended"
        action, by = self._decision.action, "agent" if self._script is None else "record"
        if human is not None and self._script is None:
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
        return self._moment(float(reward[0]), by, ended)

    def _is_cut(self) -> bool:
        return len(self.actions) >= (self._max_steps if self._script is None else len(self._script))

    def _moment(self, reward: float | None, by: str, ended: str) -> Moment:
        self._decision = None if ended else self._decided()
        insight = self.explain(
            self.policy, self._obs, self._state, self._is_first, self._mask, self._decision
        )
        action = None if self._decision is None else np.asarray(self._decision.action)[0].tolist()
        picture = self._encode(self.envs.render()[0])
        return Moment(len(self.actions), picture, insight, action, reward, self._total, by, ended)

    def _decided(self) -> Decision:
        """Return what is done next. A memoryless policy isn't asked where a script says it: it may draw at random."""
        if self._script is None:
            return self.policy.act(self._obs, self._state, self._is_first, self._mask)
        recorded = np.asarray(self._script[len(self.actions)])[None]
        state: State = self._state
        if state != ():
            state = self.policy.act(self._obs, state, self._is_first, self._mask).state
        return Decision(recorded.astype(action_dtype(self.action_space)), state)

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

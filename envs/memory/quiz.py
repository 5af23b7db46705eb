"""The base class of environments that ask for what they showed earlier."""

from __future__ import annotations

from collections import deque
from typing import Any

from gymnasium import spaces

from rl_lab.envs.checks import require_action
from rl_lab.envs.drawing.picture import Moment
from rl_lab.envs.pictured import PicturedEnv


class Quiz(PicturedEnv):
    """Show something at each step and grade the answer; the last answer ends the episode.

    Answers have no effect on what is shown. A subclass draws the contents of an episode (`_prepare`), shows them
    (`_see`), grades the answers (`_grade`) and describes and draws the moment. The state of a moment is the number
    of answers given so far.
    """

    def __init__(
        self, steps: int, answers: int, observation_space: spaces.Space, render_mode: str | None
    ) -> None:
        """Take the number of steps in an episode and the number of possible answers."""
        super().__init__(render_mode)
        self.steps, self.answers = steps, answers
        self.action_space, self.observation_space = spaces.Discrete(answers), observation_space
        self._moment = Moment(0, deque())

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Draw the contents of an episode from the environment's generator, and show the first."""
        super().reset(seed=seed, options=options)
        self._prepare()
        self._moment = Moment(0, deque())
        if self.render_mode == "human":
            self.render()
        return self._see(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Grade an answer and show what comes next. Raises ValueError for an action that is no answer."""
        answer, moment = require_action(action, self.answers), self._moment
        if moment.state == self.steps:  # the episode is over already
            return self._see(moment.state), 0.0, True, False, {}
        moment.action, moment.reward = answer, self._grade(moment.state, answer)
        moment.state += 1
        moment.steps += 1
        moment.total += moment.reward
        if self.render_mode == "human":
            self.render()
        return self._see(moment.state), moment.reward, moment.state == self.steps, False, {}

    def _prepare(self) -> None:
        """Draw the contents of an episode from `np_random`."""
        raise NotImplementedError

    def _see(self, step: int) -> Any:
        """Return the observation after `step` answers, 0..steps."""
        raise NotImplementedError

    def _grade(self, step: int, answer: int) -> float:
        """Return the reward for the answer at a step, 0..steps - 1."""
        raise NotImplementedError

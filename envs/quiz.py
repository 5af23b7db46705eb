"""The base of environments that ask for what they showed earlier; no answer changes what is shown."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from rl_lab.envs.checks import require_action, require_render_mode
from rl_lab.envs.pictured import Moment, PicturedEnv

if TYPE_CHECKING:
    pass


class Quiz(PicturedEnv):
    """Show something at each of `steps` steps and grade the answer; the last answer ends the episode.

    A derived class draws an episode's contents (`_prepare`), shows them (`_see`), grades answers
    (`_grade`) and draws pictures. `moment.state` is the number of answers given so far.
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self, steps: int, answers: int, observation_space: spaces.Space, render_mode: str | None
    ) -> None:
        self.render_mode = require_render_mode(render_mode, self.metadata)
        self.steps, self.answers = steps, answers
        self.action_space, self.observation_space = spaces.Discrete(answers), observation_space
        self._moment = Moment(0, deque())

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Draw an episode's contents from the environment's generator, and show the first."""
        super().reset(seed=seed, options=options)
        self._prepare()
        self._moment = Moment(0, deque())
        if self.render_mode == "human":
            self.render()
        return self._see(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Grade an answer and show what follows. Raises ValueError for an action that is no answer."""
        answer, moment = require_action(action, self.answers), self._moment
        if moment.state == self.steps:  # over already
            return self._see(moment.state), 0.0, True, False, {}
        moment.action, moment.reward = answer, self._grade(moment.state, answer)
        moment.state += 1
        moment.steps += 1
        moment.total += moment.reward
        if self.render_mode == "human":
            self.render()
        return self._see(moment.state), moment.reward, moment.state == self.steps, False, {}

    def _prepare(self) -> None:
        raise NotImplementedError

    def _see(self, step: int) -> Any:
        """Return the observation after `step` answers, 0..steps."""
        raise NotImplementedError

    def _grade(self, step: int, answer: int) -> float:
        """Return the reward of the answer at a step, 0..steps - 1."""
        raise NotImplementedError

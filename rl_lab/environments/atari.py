"""Atari games under a protocol, alone or many in ale_py's own vector.

An episode is the same in both, to the bit, if its seed and its actions are: `Game` does in Python what the vector does
in C++. It is there to be rendered, wrapped and explained; the vector plays many games in threads.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import ale_py
import cv2
import gymnasium
import numpy as np
from ale_py.env import AtariEnv
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces, utils

from rl_lab.environments.actions import vector_action
from rl_lab.environments.protocols import SIDE, STACK, Protocol
from rl_lab.environments.vectors import StepResult
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.types import Array, EnvironmentFault, Obs, UsageError

SPACE = spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)


class Game(AtariEnv):
    """One game: observations are stacks of pictures, uint8 [4, 84, 84], and rewards are the game's own.

    An episode opens with three black pictures and the first one. An action that ends it, or that the limit of frames
    cuts short, is shown with the last pictures that were taken, as ale_py's vector does: its newest frame isn't among
    them.
    """

    frame_stack = STACK

    def __init__(
        self, game: str, protocol: Protocol, render_mode: Literal["human", "rgb_array"] | None = None
    ):
        super().__init__(
            game,
            mode=protocol.mode,
            difficulty=protocol.difficulty,
            obs_type="grayscale",
            frameskip=1,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
            max_num_frames_per_episode=None,  # `step` counts them, since those of no-ops don't count
            render_mode=render_mode,
        )
        utils.EzPickle.__init__(self, game, protocol, render_mode)
        self.protocol = protocol
        self.observation_space = SPACE
        self._fires = protocol.use_fire_reset and ale_py.Action.FIRE in self._action_set
        self._frames = np.zeros((2, *self.ale.getScreenDims()), np.uint8)  # the last ones to be pooled
        self._stack = np.zeros(SPACE.shape, np.uint8)
        self._elapsed = 0  # frames of the open episode

    @property
    def frames_per_step(self) -> int:
        """The frames for which an action is held."""
        return self.protocol.frameskip

    def seed_game(self, seed: int | None = None) -> tuple[int, int]:
        """Seed the game, which takes effect when it is loaded; unlike ale_py's own, with the seed itself."""
        if seed is not None:
            self.ale.setInt("random_seed", seed)
        return seed or 0, seed or 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, Any]:
        """Load the game anew with a seed in [0, 2**31), or go on with the draws of before; then begin an episode."""
        gymnasium.Env.reset(self, seed=seed)
        if seed is not None:
            self.seed_game(seed)
            self.load_game()
        self.ale.reset_game()
        noops = self._noops(seed) - self._fires
        if self._fires:
            self.ale.act(ale_py.Action.FIRE)
        for _ in range(noops):
            self.ale.act(ale_py.Action.NOOP)
            if self.ale.game_over():
                self.ale.reset_game()
        self._stack = np.zeros(SPACE.shape, np.uint8)
        self._frames.fill(0)
        self.ale.getScreenGrayscale(self._frames[0])
        self._elapsed = 0
        return self._shown(), self._get_info()

    def _noops(self, seed: int | None) -> int:
        """Draw the no-ops of an episode; those of a seed as ale_py's vector draws them."""
        if not self.protocol.noop_max:
            return 0
        if seed is not None:
            return below(self.protocol.noop_max, twister_draws(seed))
        return int(self.np_random.integers(self.protocol.noop_max))

    def step(self, action: Any) -> tuple[Array, float, bool, bool, Any]:
        """Hold an action for some frames; the reward is their sum."""
        reward, over, limit = 0, False, self.protocol.max_num_frames_per_episode
        held = self._action_set[int(action)]
        for left in range(self.protocol.frameskip, 0, -1):
            reward += self.ale.act(held, 1.0)
            self._elapsed += 1
            over = self.ale.game_over()
            if over or self._elapsed >= limit:
                break
            if left <= 2:
                self.ale.getScreenGrayscale(self._frames[left - 1])
        return self._shown(), float(reward), over, self._elapsed >= limit and not over, self._get_info()

    def _shown(self) -> Array:
        """Take the picture of the last frames, and return a copy of the stack that it completes."""
        newest = self._frames[0]
        if self.protocol.maxpool:
            np.maximum(newest, self._frames[1], out=newest)
        stack = np.empty_like(self._stack)
        stack[:-1] = self._stack[1:]
        cv2.resize(newest, (SIDE, SIDE), dst=stack[-1], interpolation=cv2.INTER_AREA)
        self._stack = stack
        return stack.copy()


def twister_draws(seed: int) -> Iterator[int]:
    """Yield the numbers, below 2**32, of the Mersenne Twister with a seed, as std::mt19937 does."""
    twister = np.random.RandomState(seed)
    while True:
        yield int(twister.randint(0, 2**32, dtype=np.uint32))


def below(most: int, draws: Iterator[int]) -> int:
    """Return a number below `most`, all of them equally likely, from draws below 2**32.

    It is the one that std::uniform_int_distribution gives in GNU's library: that of Lemire (2019), "Fast Random Integer
    Generation in an Interval", https://arxiv.org/abs/1805.10941, which draws again where numbers would be unequal.
    """
    unequal = 2**32 % most
    return next(product for draw in draws if (product := draw * most) % 2**32 >= unequal) >> 32


def make_game(env_id: str, protocol: Protocol, render_mode: str | None = None) -> gymnasium.Env:
    """Make one game from any of its registered ids; of the id only the game counts.

    Raises:
        UsageError: it has no such mode or difficulty.
    """
    spec = copy.deepcopy(gymnasium.spec(env_id.rpartition(":")[2]))
    make: Any = Game
    spec.entry_point, spec.vector_entry_point = make, None
    spec.kwargs = {"game": spec.kwargs["game"], "protocol": protocol}
    try:
        return gymnasium.make(spec, disable_env_checker=True, render_mode=render_mode)
    except RuntimeError as error:
        ale = Game(spec.kwargs["game"], replace(protocol, mode=None, difficulty=None)).ale
        raise UsageError(
            f"environment {env_id!r} with mode {protocol.mode}, difficulty {protocol.difficulty}: {error} (allowed:"
            f" modes {_listed(ale.getAvailableModes())}; difficulties {_listed(ale.getAvailableDifficulties())})"
        ) from error


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


class GameVector:
    """Many games in ale_py's own vector, which plays them in C++ threads; it has no pictures to render.

    It goes on by itself only where a finished game is stepped again, which is refused here: games are reset with seeds
    of their own and a mask.

    Args:
        env_id: any id of a game.
        watches_lives: report lost lives in `info`, as `LifeLoss` does.
    """

    def __init__(self, env_id: str, num_envs: int, protocol: Protocol, *, watches_lives: bool = False):
        self._name, self.num_envs, self._watches_lives = env_id, num_envs, watches_lives
        self._envs = AtariVectorEnv(
            gymnasium.spec(env_id.rpartition(":")[2]).kwargs["game"],
            num_envs,
            num_threads=min(num_envs, len(os.sched_getaffinity(0))),
            max_num_frames_per_episode=protocol.max_num_frames_per_episode,
            repeat_action_probability=protocol.repeat_action_probability,
            full_action_space=protocol.full_action_space,
            stack_num=STACK,
            frameskip=protocol.frameskip,
            maxpool=protocol.maxpool,
            noop_max=protocol.noop_max,
            reward_clipping=False,
            use_fire_reset=protocol.use_fire_reset,
        )
        self.single_observation_space: spaces.Space = SPACE
        self.single_action_space: spaces.Space = self._envs.single_action_space
        self._action: Callable[[Array], Array] = vector_action(self.single_action_space)
        self._lives = np.zeros(num_envs, np.int32)
        self._over = np.zeros(num_envs, np.bool_)

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all games, or those in options["reset_mask"], bool [N]; the others keep their observations.

        Raises:
            EnvironmentFault: ale_py failed.
        """
        mask = (options or {}).get("reset_mask")
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        wanted = [one for one, is_chosen in zip(seed, chosen, strict=True) if is_chosen]
        seeds = np.array([-1 if one is None else one for one in wanted], np.int64)
        try:
            obs, info = self._envs.reset(seed=seeds, options={"reset_mask": chosen})
        except RuntimeError as error:
            raise EnvironmentFault(f"environment {self._name}: reset raised {error}") from error
        self._over[chosen] = False
        self._lives = info["lives"]
        return obs, self._info(np.zeros(self.num_envs, np.bool_))

    def step(self, action: Array) -> StepResult:
        """Step all games with actions [N].

        Raises:
            ValueError: an action is outside the space.
            EnvironmentFault: ale_py failed.
        """
        assert not np.count_nonzero(self._over)  # a finished game is reset first
        action = self._action(action)
        try:
            obs, reward, terminated, truncated, info = self._envs.step(action)
        except RuntimeError as error:
            raise EnvironmentFault(f"environment {self._name}: step raised {error}") from error
        self._over = terminated | truncated
        before, self._lives = self._lives, info["lives"]
        return obs, reward.astype(np.float64), terminated, truncated, self._info(self._lives < before)

    def _info(self, life_lost: Array) -> dict[str, Array]:
        return {LIFE_LOST: life_lost} if self._watches_lives else {}

    def render(self) -> Sequence[Any]:
        """Return nothing: only single games are rendered."""
        return ()

    def close(self) -> None:
        """End the threads."""
        self.__dict__.pop("_envs", None)

"""Plays episodes and renders them: what a policy does, or what recorded actions did, moment by moment."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.actions import action_dtype
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import SingleVector
from rl_lab.policies import for_episode
from rl_lab.types import Array, Obs, State

Paint = Callable[[Array, Obs, State, Array, Array | None], Array]
"""Takes a frame uint8 [H, W, 3] and what the policy is asked with there; returns the frame that is shown instead."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What an observation of an episode looks like, and what is done there."""

    frame: Array  # uint8 [H, W, 3]
    step: int  # steps taken so far
    return_: float  # of the rewards so far
    action: Array | None  # [...], chosen here; None where the episode is over or cut
    figures: Mapping[str, Array] = field(
        default_factory=dict
    )  # of `Policy.inspect`, each [...]; {} unless asked for
    terminated: bool = False
    truncated: bool = False


def rendered_frames(
    policy: Policy,
    make: Callable[[], gymnasium.Env],
    *,
    seeds: list[int],
    max_steps: int = 10_000,
    actions: list[Array] | None = None,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> Iterator[Array]:
    """Yield the frames uint8 [H, W, 3] of what `moments` plays."""
    for moment in moments(policy, make, seeds=seeds, max_steps=max_steps, actions=actions, on_cut=on_cut):
        yield moment.frame


def moments(
    policy: Policy,
    make: Callable[[], gymnasium.Env],
    *,
    seeds: list[int],
    max_steps: int = 10_000,
    actions: list[Array] | None = None,
    inspecting: bool = False,
    paint: Paint | None = None,
    on_cut: Callable[[int], None] = lambda steps: None,
) -> Iterator[Moment]:
    """Play one episode per seed and yield its moments, from the first observation to the last.

    Args:
        make: makes an environment whose render_mode is "rgb_array".
        max_steps: limit on the steps of each episode.
        actions: one array [length, ...] per episode, replayed instead of asking the policy.
        inspecting: ask the policy for the figures behind its choices, where it is asked at all.
        paint: draws into the frames, where the policy is asked.
        on_cut: called with `max_steps` for each episode that was cut there and would have gone on.

    Raises:
        EnvironmentFault: the environment fails, breaks its contract, or renders no picture.
    """
    envs = SingleVector(make())
    try:
        for index, seed in enumerate(seeds):
            replayed = None if actions is None else actions[index]
            if (
                yield from _episode(
                    for_episode(policy, seed), envs, seed, max_steps, replayed, inspecting, paint
                )
            ):
                on_cut(max_steps)
    finally:
        envs.close()


def _episode(
    policy: Policy,
    envs: SingleVector,
    seed: int,
    max_steps: int,
    actions: Array | None,
    inspecting: bool,
    paint: Paint | None,
) -> Generator[Moment, None, bool]:
    """Yield the moments of an episode; return whether it was cut and would have gone on."""
    obs, info = envs.reset(seed=[seed])
    state, mask, is_first = policy.initial_state(1), mask_of(info), np.ones(1, np.bool_)
    limit, total = max_steps if actions is None else min(max_steps, len(actions)), 0.0
    for t in range(limit):
        figures: Mapping[str, Array] = {}
        frame = envs.env.picture()
        if actions is None:
            if paint is not None:
                frame = paint(frame, obs, state, is_first, mask)
            if inspecting:
                figures = {name: x[0] for name, x in policy.inspect(obs, state, is_first, mask).items()}
            decision = policy.act(obs, state, is_first, mask)
            action, state = decision.action, decision.state
        else:
            action = actions[t : t + 1].astype(action_dtype(envs.single_action_space))
        yield Moment(frame, t, total, action[0], figures)
        obs, reward, terminated, truncated, info = envs.step(action)
        total += float(reward[0])
        mask, is_first = mask_of(info), terminated | truncated
        if is_first[0]:
            yield Moment(envs.env.picture(), t + 1, total, None, {}, bool(terminated[0]), bool(truncated[0]))
            return False
    yield Moment(envs.env.picture(), limit, total, None)
    return actions is None or len(actions) > max_steps

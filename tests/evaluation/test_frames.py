"""Frames of played episodes: the policy keeps its carry through each, and begins the next afresh."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_lab.evaluation.evaluate import evaluate, evaluation_seed
from rl_lab.evaluation.frames import rendered_frames
from rl_lab.evaluation.watch import episode_frames, film
from rl_lab.runs.config import RunConfig
from rl_lab.types import Decision
from toys import agent_on, problem_on, vector

LENGTHS = {1: 3, 2: 5, 3: 2}  # of episodes, by their seed; the others have 4 steps


class Filmed(gymnasium.Env):
    """Observes random numbers; the frame's colour is (steps, action before, first of the seed's digits)."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space, action_space = spaces.Box(-1.0, 1.0, (3,), np.float32), spaces.Discrete(3)

    def __init__(self, render_mode=None):
        self.render_mode, self.actions = render_mode, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.steps, self.last, self.seed = LENGTHS.get(seed, 4), 0, 0, seed
        return self._seen(), {}

    def step(self, action):
        self.left, self.steps, self.last = self.left - 1, self.steps + 1, int(action)
        self.actions.append(self.last)
        return self._seen(), float(action), self.left == 0, False, {}

    def render(self):
        return np.full((8, 8, 3), (self.steps, self.last, self.seed % 256), np.uint8)

    def _seen(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


gymnasium.register("lab-test/Filmed-v0", Filmed, disable_env_checker=True)


class Remembering:
    """Counts its steps in its carry, and writes down with what it was asked to act."""

    def __init__(self):
        self.asked = []

    def initial_state(self, num_envs):
        return (np.zeros((num_envs, 1)),)

    def act(self, obs, state, is_first, mask=None):
        self.asked.append((state[0].item(), bool(is_first[0])))
        count = np.where(is_first[:, None], 0.0, state[0])
        return Decision(count[:, 0].astype(np.int64) % 3, (count + 1,))

    def inspect(self, obs, state, is_first, mask=None):
        return {}


def through_an_episode(length):
    """What a policy is asked with: its own carry, from the initial one on."""
    return [(float(t), t == 0) for t in range(length)]


CONFIG = RunConfig("lab-test/Filmed-v0", seed=4)


class TestCarry:
    def test_grows_through_an_episode_and_begins_afresh_with_each(self):
        policy = Remembering()
        frames = list(rendered_frames(policy, lambda: Filmed("rgb_array"), seeds=[1, 2, 3]))
        assert policy.asked == [*through_an_episode(3), *through_an_episode(5), *through_an_episode(2)]
        assert [frame[0, 0, 0] for frame in frames] == [*range(4), *range(6), *range(3)]
        assert [frame[0, 0, 1] for frame in frames] == [0, 0, 1, 2, 0, 0, 1, 2, 0, 1, 0, 0, 1]

    def test_an_episode_that_is_cut_leaves_nothing_to_the_next(self):
        policy = Remembering()
        list(rendered_frames(policy, lambda: Filmed("rgb_array"), seeds=[2, 2], max_steps=2))
        assert policy.asked == through_an_episode(2) * 2

    @pytest.mark.parametrize(
        "see",
        [
            lambda policy, folder: list(episode_frames(policy, CONFIG, [8, 9])),
            lambda policy, folder: film(folder / "a.gif", policy, CONFIG, 2),
        ],
        ids=["frames", "film"],
    )
    def test_is_kept_by_all_who_watch(self, see, tmp_path):
        policy = Remembering()
        see(policy, tmp_path)
        assert policy.asked == through_an_episode(4) * 2

    @pytest.mark.parametrize("memory", ["lstm", "gru", "attention"])
    def test_what_is_filmed_is_what_is_evaluated(self, memory):
        policy, episodes = remembering_network(memory), 12
        evaluated, filmed, forgotten = (Filmed("rgb_array") for _ in range(3))
        evaluate(policy, vector(lambda: evaluated, 1), episodes=episodes, seed=4)
        seeds = [evaluation_seed(4, e) for e in range(episodes)]
        list(rendered_frames(policy, lambda: filmed, seeds=seeds))
        assert filmed.actions == evaluated.actions
        list(rendered_frames(Forgetful(policy), lambda: forgotten, seeds=seeds))
        assert forgotten.actions != evaluated.actions


def test_recorded_actions_are_replayed_without_asking_the_policy():
    env, policy = Filmed("rgb_array"), Remembering()
    actions = [np.array([2, 0, 1]), np.array([1, 1])]
    frames = list(rendered_frames(policy, lambda: env, seeds=[1, 2], actions=actions))
    assert env.actions == [2, 0, 1, 1, 1]
    assert policy.asked == []
    assert [frame[0, 0, 1] for frame in frames] == [0, 2, 0, 1, 0, 1, 1]


def test_episodes_that_are_cut_are_told_of_and_those_that_end_at_the_limit_are_not():
    told = []
    seeds = [1, 2, 3, 4]  # of 3, 5, 2 and 4 steps
    frames = rendered_frames(
        Remembering(), lambda: Filmed("rgb_array"), seeds=seeds, max_steps=3, on_cut=told.append
    )
    assert [frame[0, 0, 0] for frame in frames] == [*range(4), *range(4), *range(3), *range(4)]
    assert told == [3, 3]


@pytest.mark.parametrize(("length", "told"), [(2, []), (3, []), (4, [3])])
def test_recorded_actions_are_cut_at_the_limit_too(length, told):
    heard = []
    actions = [np.zeros(length, np.int64)]
    frames = rendered_frames(
        Remembering(),
        lambda: Filmed("rgb_array"),
        seeds=[2],
        max_steps=3,
        actions=actions,
        on_cut=heard.append,
    )
    assert len(list(frames)) == min(length, 3) + 1
    assert heard == told


def remembering_network(memory):
    """A greedy policy of random weights, whose actions depend on its carry."""
    agent = agent_on(problem_on(Filmed), memory=memory, memory_size=8, hidden=(8,))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in agent.trained.network.parameters():
            p += (p.ndim > 1) * torch.randn(p.shape, generator=generator)
    return agent.policy(explore=False)


class Forgetful:
    """Acts as a policy would that is given an empty carry at every step."""

    def __init__(self, policy):
        self._policy, self.initial_state = policy, policy.initial_state

    def act(self, obs, state, is_first, mask=None):
        return self._policy.act(obs, self.initial_state(len(is_first)), is_first, mask)

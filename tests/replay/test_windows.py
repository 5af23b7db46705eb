"""Windows of several steps, by hand: what is summed, and what follows."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.replay.transitions import TransitionReplay
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.types import Step
from toys import spec_of
from worlds import lean


@pytest.fixture(autouse=True, params=["roomy", "lean"], scope="module")
def room(request):
    """Every test runs twice: where observations never expire, and where the ring has little slack."""
    with lean() if request.param == "lean" else nullcontext():
        yield request.param


def step_of(reward: float, *, first=False, terminated=False, truncated=False, at=0.0) -> Step:
    """One step of one environment that counts from `at`."""
    return Step(
        np.array([[at]], np.float32), np.array([1]), np.array([reward]), np.array([terminated]),
        np.array([truncated]), np.array([[at + 1]], np.float32), np.array([first]), (), (), None, None,
    )  # fmt: skip


class TestWindows:
    """Five steps with rewards 1, 2, 4, 8, 16 at gamma 0.5 and n = 3, from each of which a window begins."""

    def table(self, **ends):
        """Return {obs: (reward, discount, terminated, next_obs)} of what is drawn."""
        spec = spec_of(spaces.Box(0.0, 100.0, (1,), np.float32))
        replay = TransitionReplay(5, spec, n_steps=3, gamma=0.5)
        for k in range(5):
            flags = {flag: k in rows for flag, rows in ends.items()}
            replay.add(step_of(2.0**k, at=float(k), **({"first": k == 0} | flags)))
        batch = replay.sample(200, np.random.default_rng(0))
        columns = batch.obs[:, 0], batch.reward, batch.discount, batch.terminated, batch.next_obs[:, 0]
        return {o: (r, d, t, n) for o, r, d, t, n in zip(*(c.tolist() for c in columns), strict=True)}

    def test_the_newest_steps_are_shorter(self):
        assert self.table() == {
            0: (1 + 1 + 1, 0.125, False, 3), 1: (2 + 2 + 2, 0.125, False, 4), 2: (4 + 4 + 4, 0.125, False, 5),
            3: (8 + 8, 0.25, False, 5), 4: (16, 0.5, False, 5),
        }  # fmt: skip

    def test_a_termination_ends_a_window_and_counts_as_one(self):
        found = self.table(terminated=[1])
        assert found[0] == (1 + 1, 0.25, True, 2)
        assert found[1] == (2, 0.5, True, 2)
        assert found[2] == (12, 0.125, False, 5)

    def test_a_truncation_ends_a_window_and_bootstraps(self):
        assert self.table(truncated=[1], first=[0, 2])[0] == (1 + 1, 0.25, False, 2)

    def test_a_cut_ends_a_window_although_nothing_says_so(self):
        found = self.table(first=[0, 2])
        assert found[0] == (1 + 1, 0.25, False, 2)
        assert found[1] == (2, 0.5, False, 2)

    def test_an_observation_that_is_no_successor_is_kept_and_ends_a_window(self):
        """Even where the step doesn't say that an episode began."""
        replay = TransitionReplay(5, spec_of(spaces.Box(0.0, 100.0, (1,), np.float32)), n_steps=3, gamma=0.5)
        for k, at in enumerate([0.0, 1.0, 50.0]):
            replay.add(step_of(1.0, first=k == 0, at=at))
        batch = replay.sample(100, np.random.default_rng(0))
        pairs = set(zip(batch.obs[:, 0].tolist(), batch.next_obs[:, 0].tolist(), strict=True))
        assert pairs == {(0, 2), (1, 2), (50, 51)}

    @pytest.mark.parametrize("resumed", [False, True])
    def test_it_ends_a_window_while_another_environment_begins_an_episode(self, tmp_path, resumed):
        spec = spec_of(spaces.Box(0.0, 200.0, (1,), np.float32), num_envs=2)
        replay = TransitionReplay(10, spec)
        no = np.zeros(2, np.bool_)
        steps = [([0, 100], [1, 101], no, no), ([1, 101], [2, 102], [False, True], no)]
        steps += [([50, 120], [51, 121], no, [False, True])]  # the first one's isn't its successor, 2
        for at, after, over, first in steps:
            if resumed and at == [50, 120]:
                store = Checkpoints(tmp_path)
                store.save(1, {"replay": replay.state_dict()})
                replay = TransitionReplay(10, spec)
                replay.load_state_dict(store.load()[1]["replay"])
            obs, successor = (np.array(x, np.float32)[:, None] for x in (at, after))
            over, first = np.array(over), np.array(first) if at != [0, 100] else ~no
            replay.add(
                Step(obs, np.ones(2, np.int64), np.ones(2), over, no, successor, first, (), (), None, None)
            )
        batch = replay.sample(200, np.random.default_rng(0))
        pairs = set(zip(batch.obs[:, 0].tolist(), batch.next_obs[:, 0].tolist(), strict=True))
        assert pairs == {(0, 1), (1, 2), (50, 51), (100, 101), (101, 102), (120, 121)}

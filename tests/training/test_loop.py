"""The loop: true successors, flags, seeds and masks; the same episodes at every width; the budget."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, TimeLimit

from counting import EPISODE, Counting
from rl_lab.environments.episodes import EpisodeTracker
from rl_lab.environments.make import make_envs, require_no_memory_across_episodes
from rl_lab.environments.vectors import MaskedVector, SingleVector, mask_of
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.evaluation.evaluate import evaluate, evaluation_seed
from rl_lab.seeding import EpisodeSeeds, episode_seed, seed_of
from rl_lab.training.loop import start, train
from rl_lab.trees import leaves_of
from rl_lab.types import Cursor, Decision, Step, UsageError
from runs import learn

SEED = 6


class Scripted:
    """Takes, in each environment, actions that are a function of its own observation: the same at any width."""

    def __init__(self, choose):
        self._choose = choose

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        legal = [None] * len(is_first) if mask is None else mask
        return Decision(np.array([self._choose(o, m) for o, m in zip(obs, legal, strict=True)]))

    def inspect(self, obs, state, is_first, mask=None):
        return {}


class Collector:
    """An agent that keeps every step; `collect_env_steps` is what a test says."""

    gradient_steps, collect_env_steps = 0, 1

    def __init__(self):
        self.steps: list[Step] = []

    def observe(self, step):
        self.steps.append(step)

    def update(self):
        return None


def sometimes_end(obs, mask) -> int:
    """End some episodes at step 5, 6 or never (the limit of 7 cuts those), by their own number."""
    number, step = divmod(int(obs[0]), EPISODE)
    return int(step >= 4 + number % 4)


def hashed_legal(obs, mask) -> int:
    """A legal action that is a function of observation and mask."""
    digest = hashlib.sha256(np.asarray(obs).tobytes()).digest()[0]
    legal = np.flatnonzero(mask) if mask is not None else np.arange(4)
    return int(legal[digest % len(legal)])


def collect(envs, policy, vector_steps: int, seed: int = SEED) -> tuple[list[Step], list[Cursor]]:
    agent, seeds = Collector(), EpisodeSeeds(seed, envs.num_envs)
    total = vector_steps * envs.num_envs
    cursors = [at for _, _, at in train(agent, policy, envs, seeds, total, start(policy, envs, seeds))]
    envs.close()
    return agent.steps, cursors


def column(steps: list[Step], i: int) -> list[tuple[Any, ...]]:
    """Return environment i's transitions as plain values."""
    names = (
        "obs",
        "action",
        "reward",
        "terminated",
        "truncated",
        "next_obs",
        "is_first",
        "mask",
        "next_mask",
    )
    values = ((getattr(s, n) for n in names) for s in steps)
    return [tuple(None if v is None else np.asarray(v[i]).tolist() for v in row) for row in values]


def single_episodes(
    env: gymnasium.Env, policy, i: int, steps: int, seed: int = SEED
) -> list[tuple[Any, ...]]:
    """The same transitions, played by hand in one environment that is reset to (seed, i, k)."""
    out, k = [], 0
    obs, info = env.reset(seed=episode_seed(seed, i, k))
    first = True
    while len(out) < steps:
        mask = np.asarray(info["action_mask"], bool) if "action_mask" in info else None
        action = policy._choose(obs, mask)
        next_obs, reward, terminated, truncated, info = env.step(action)
        next_mask = np.asarray(info["action_mask"], bool) if "action_mask" in info else None
        out.append(
            tuple(
                None if v is None else np.asarray(v).tolist()
                for v in (obs, action, float(reward), terminated, truncated, next_obs, first, mask, next_mask)
            )
        )
        obs, first = next_obs, False
        if terminated or truncated:
            k, first = k + 1, True
            obs, info = env.reset(seed=episode_seed(seed, i, k))
    return out


class TestCounting:
    @pytest.mark.parametrize("num_envs", [1, 2, 4])
    def test_every_successor_is_the_next_count_whatever_ends(self, num_envs):
        steps, _ = collect(make_envs("test/Counting-v0", num_envs), Scripted(sometimes_end), 200)
        ended = np.zeros(2, int)
        for step in steps:
            np.testing.assert_array_equal(step.next_obs, step.obs + 1)
            np.testing.assert_array_equal(step.reward, step.obs[:, 0])
            np.testing.assert_array_equal(step.truncated, (step.next_obs[:, 0] % EPISODE == 7))
            ended += [np.count_nonzero(step.terminated), np.count_nonzero(step.truncated)]
        assert (ended > 5).all()  # both kinds of ends were met

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_is_first_where_an_episode_opens_and_nowhere_else(self, num_envs):
        steps, cursors = collect(make_envs("test/Counting-v0", num_envs), Scripted(sometimes_end), 100)
        assert steps[0].is_first.all()
        for step in steps:
            np.testing.assert_array_equal(step.is_first, step.obs[:, 0] % EPISODE == 0)
        for step, after, at in zip(steps, steps[1:], cursors, strict=False):
            np.testing.assert_array_equal(after.is_first, step.terminated | step.truncated)
            np.testing.assert_array_equal(after.is_first, at.is_first)

    def test_episodes_start_from_the_seeds_of_their_numbers(self):
        steps, cursors = collect(make_envs("test/Counting-v0", 2), Scripted(sometimes_end), 60)
        for i in range(2):
            opened = [int(s.obs[i, 0]) for s in steps if s.is_first[i]]
            assert opened == [EPISODE * (episode_seed(SEED, i, k) % 1000) for k in range(len(opened))]
            assert cursors[-1].episodes[i] in (len(opened) - 1, len(opened))

    def test_the_cursor_counts_decisions_over_the_vector(self):
        _, cursors = collect(make_envs("test/Counting-v0", 4), Scripted(sometimes_end), 5)
        assert [at.env_steps for at in cursors] == [4, 8, 12, 16, 20]

    def test_a_cursor_is_never_changed_afterwards(self):
        """Whoever saves at a yield may do so later: the loop replaces what the cursor holds."""
        envs, policy, seeds = make_envs("test/Counting-v0", 2), Scripted(sometimes_end), EpisodeSeeds(SEED, 2)
        kept = []
        for _, _, at in train(Collector(), policy, envs, seeds, 60, start(policy, envs, seeds)):
            kept.append((at, at.obs.copy(), at.is_first.copy(), at.episodes))
        for at, obs, is_first, episodes in kept:
            np.testing.assert_array_equal(at.obs, obs)
            np.testing.assert_array_equal(at.is_first, is_first)
            assert at.episodes == episodes


CASES = {
    "test/Counting-v0": sometimes_end,
    "FrozenLake-v1": hashed_legal,
    "Taxi-v4": hashed_legal,
    "CartPole-v1": lambda obs, mask: int(obs[2] > 0),
}


class TestWidths:
    @pytest.mark.parametrize("num_envs", [1, 4])
    @pytest.mark.parametrize("env_id", CASES)
    def test_each_column_is_a_single_environment_with_its_seeds(self, env_id, num_envs):
        policy = Scripted(CASES[env_id])
        steps, _ = collect(make_envs(env_id, num_envs), policy, 250)
        for i in range(num_envs):
            assert column(steps, i) == single_episodes(gymnasium.make(env_id), policy, i, 250)

    @pytest.mark.parametrize("env_id", ["Taxi-v4", "CartPole-v1"])
    def test_worker_processes_change_nothing(self, env_id):
        hashes = []
        for vector in ("sync", "async"):
            steps, _ = collect(make_envs(env_id, 3, vector=vector), Scripted(CASES[env_id]), 120)
            rows = [column(steps, i) for i in range(3)]
            hashes.append(hashlib.sha256(repr(rows).encode()).hexdigest())
        assert hashes[0] == hashes[1]


class TestMasks:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_masks_are_those_of_the_observation_on_both_sides(self, num_envs):
        """Taxi's mask is a function of its state, which the observation names; ends come after 200 steps."""
        table = gymnasium.make("Taxi-v4").unwrapped
        steps, cursors = collect(make_envs("Taxi-v4", num_envs), Scripted(hashed_legal), 430)
        resets = 0
        for step, at in zip(steps, cursors, strict=True):
            for i in range(num_envs):
                assert step.mask[i].tolist() == table.action_mask(int(step.obs[i])).astype(bool).tolist()
                assert step.mask[i][step.action[i]]
                assert at.mask[i].tolist() == table.action_mask(int(at.obs[i])).astype(bool).tolist()
            resets += np.count_nonzero(step.terminated | step.truncated)
        assert resets >= 2 * num_envs

    def test_a_reset_in_one_column_leaves_the_others_masks(self):
        envs = make_envs("Taxi-v4", 3)
        obs, info = envs.reset(seed=[1, 2, 3])
        before = mask_of(info)
        from rl_lab.training.loop import reset_done

        done = np.array([False, True, False])
        after_obs, after = reset_done(envs, EpisodeSeeds(SEED, 3), done, before)
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
        np.testing.assert_array_equal(after_obs[[0, 2]], obs[[0, 2]])
        table = envs.envs.envs[1].unwrapped
        np.testing.assert_array_equal(after[1], table.action_mask(int(after_obs[1])).astype(bool))
        envs.close()

    def test_where_nothing_is_legal_all_is(self):
        mask = mask_of({"action_mask": np.array([[True, False], [False, False]])})
        assert mask.tolist() == [[True, False], [True, True]]
        assert mask_of({}) is None


def counting_vector(num_envs: int, mode: AutoresetMode) -> SyncVectorEnv:
    return SyncVectorEnv([partial(gymnasium.make, "CartPole-v1")] * num_envs, autoreset_mode=mode)


class TestVectors:
    @pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
    def test_a_vector_that_resets_by_itself_is_refused_by_name(self, mode):
        with pytest.raises(UsageError, match=rf"SyncVectorEnv has autoreset mode .*{mode.name}.*DISABLED"):
            MaskedVector(counting_vector(2, mode))

    def test_a_vector_that_says_nothing_is_refused(self):
        silent = counting_vector(2, AutoresetMode.DISABLED)
        silent.metadata = {}
        with pytest.raises(UsageError, match="autoreset mode None"):
            MaskedVector(silent)

    @pytest.mark.parametrize("num_envs", [1, 2])
    @pytest.mark.parametrize("action", [-1, 2, 0.5, float("nan")])
    def test_refuses_actions_outside_a_discrete_space(self, num_envs, action):
        envs = make_envs("CartPole-v1", num_envs)
        envs.reset(seed=[0] * num_envs)
        with (
            pytest.raises(ValueError, match=f"action {action} is outside"),
            np.errstate(invalid="ignore"),
        ):
            envs.step(np.array([0] * (num_envs - 1) + [action]))
        envs.close()

    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_refuses_actions_outside_a_box(self, num_envs):
        envs = make_envs("Pendulum-v1", num_envs)
        envs.reset(seed=[0] * num_envs)
        with pytest.raises(ValueError, match="outside the action space Box"):
            envs.step(np.full((num_envs, 1), 2.1, np.float32))
        envs.step(np.full((num_envs, 1), 2.0, np.float32))
        envs.close()

    def test_a_vector_of_one_copies_what_an_environment_reuses(self):
        class Reusing(gymnasium.Env):
            observation_space, action_space = spaces.Box(0, 9, (1,), np.float64), spaces.Discrete(2)
            seen = np.zeros(1)

            def reset(self, *, seed=None, options=None):
                self.seen[:] = 0
                return self.seen, {}

            def step(self, action):
                self.seen += 1
                return self.seen, 0.0, False, False, {}

        envs = SingleVector(Reusing())
        first, _ = envs.reset(seed=[0])
        second = envs.step(np.array([0]))[0]
        assert (first[0, 0], second[0, 0]) == (0.0, 1.0)

    def test_memory_across_episodes_is_refused(self):
        with pytest.raises(UsageError, match="NormalizeObservation remembers across episodes"):
            require_no_memory_across_episodes(TimeLimit(NormalizeObservation(Counting()), 3))

    def test_dict_and_tuple_observations_pass(self):
        space = spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple((spaces.Box(0, 1, (2,)),))})

        class Nested(gymnasium.Env):
            observation_space, action_space = space, spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                return {"b": 1, "a": (np.ones(2, np.float32),)}, {}

            def step(self, action):
                return {"b": 2, "a": (np.zeros(2, np.float32),)}, 1.0, True, False, {}

        envs = SingleVector(Nested())
        obs, _ = envs.reset(seed=[0])
        assert [leaf.tolist() for leaf in leaves_of(obs, sort_keys=True)] == [[[1.0, 1.0]], [1]]
        assert [leaf.tolist() for leaf in leaves_of(envs.step(np.array([0]))[0])] == [[[0.0, 0.0]], [2]]


class TestLives:
    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_a_lost_life_zeroes_the_bootstrap_and_ends_nothing(self, num_envs):
        """Steps 3 and 6 lose a life; step 7 meets the time limit."""

        def make():
            return LifeLoss(TimeLimit(Counting(ends_at=10**9, lives=5), 7))

        envs = SingleVector(make())
        if num_envs > 1:
            envs = MaskedVector(SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.DISABLED))
        steps, cursors = collect(envs, Scripted(lambda o, m: 0), 14)
        for i in range(num_envs):
            assert [t + 1 for t, s in enumerate(steps) if s.terminated[i]] == [3, 6, 10, 13]
            assert [t + 1 for t, s in enumerate(steps) if s.truncated[i]] == [7, 14]
            assert [t + 1 for t, c in enumerate(cursors) if c.is_first[i]] == [7, 14]

    def test_without_it_lives_mean_nothing(self):
        steps, _ = collect(SingleVector(TimeLimit(Counting(lives=5), 7)), Scripted(lambda o, m: 0), 14)
        assert not any(s.terminated.any() for s in steps)


class TestEpisodeTracker:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_one_row_an_episode_in_the_order_in_which_they_ended(self, num_envs):
        """Against the steps themselves; 200 vector steps cross several batches."""
        envs = make_envs("test/Counting-v0", num_envs)
        found: list[Any] = []
        tracker = EpisodeTracker(SEED, num_envs, envs.single_action_space, found.append)
        expected, open_ = [], [[] for _ in range(num_envs)]
        policy, seeds = Scripted(sometimes_end), EpisodeSeeds(SEED, num_envs)
        counts = [0] * num_envs
        for step, _, at in train(
            Collector(), policy, envs, seeds, 200 * num_envs, start(policy, envs, seeds)
        ):
            tracker.add(step, at)
            for i in range(num_envs):
                open_[i].append((int(step.action[i]), step.reward[i]))
                if at.is_first[i]:
                    actions, rewards = zip(*open_[i], strict=True)
                    row = (at.env_steps, i, counts[i], episode_seed(SEED, i, counts[i]), sum(rewards))
                    expected.append(
                        (*row, len(rewards), bool(step.terminated[i]), bool(step.truncated[i]), actions)
                    )
                    open_[i], counts[i] = [], counts[i] + 1
        tracker.flush()
        envs.close()
        assert [
            (e.env_steps, e.env_index, e.episode, e.seed, e.return_, e.length, e.terminated, e.truncated)
            for e in found
        ] == [row[:-1] for row in expected]
        assert [tuple(e.actions.tolist()) for e in found] == [row[-1] for row in expected]
        assert len(found) > 20


class TestEvaluation:
    @pytest.mark.parametrize("env_id", ["test/Counting-v0", "FrozenLake-v1", "Taxi-v4"])
    def test_an_episode_is_the_same_at_every_width(self, env_id):
        policy, outcomes = Scripted(CASES[env_id]), []
        for width in (1, 3, 8):
            envs = make_envs(env_id, width)
            played = evaluate(policy, envs, episodes=7, seed=3, gamma=0.9, max_steps=60)
            envs.close()
            outcomes.append(
                [
                    x.tolist()
                    for x in (played.returns, played.lengths, played.discounted_returns, played.capped)
                ]
            )
        assert outcomes[0] == outcomes[1] == outcomes[2]
        assert len(outcomes[0][0]) == 7

    def test_figures_are_those_of_the_counts(self):
        """Never ending: each episode has the 7 rewards base, base + 1, ..., base + 6."""
        envs = make_envs("test/Counting-v0", 3)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=4, seed=3, gamma=0.5)
        envs.close()
        bases = np.array([EPISODE * (evaluation_seed(3, e) % 1000) for e in range(4)], float)
        assert evaluation_seed(3, 2) == seed_of(3, "eval", 2)
        np.testing.assert_array_equal(played.returns, 7 * bases + 21)
        # sum of 0.5^t (base + t), t < 7: base * 127/64 + (1/2 + 2/4 + 3/8 + 4/16 + 5/32 + 6/64)
        np.testing.assert_allclose(played.discounted_returns, bases * 127 / 64 + 1.875, rtol=1e-12)
        assert played.lengths.tolist() == [7] * 4
        assert not played.capped.any()
        assert np.isnan(played.predicted_values).all()

    @pytest.mark.parametrize("width", [1, 3])
    def test_an_episode_without_end_is_capped_and_marked(self, width):
        envs = make_envs("test/Endless-v0", width)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=5, seed=3, max_steps=9)
        envs.close()
        assert played.lengths.tolist() == [9] * 5
        assert played.capped.all()
        assert played.figures()["eval_capped_episodes"] == 5

    def test_an_episode_that_ends_at_the_cap_is_not_marked(self):
        envs = make_envs("test/Counting-v0", 2)
        played = evaluate(Scripted(lambda o, m: 0), envs, episodes=3, seed=3, max_steps=7)
        envs.close()
        assert played.lengths.tolist() == [7] * 3
        assert not played.capped.any()


class TestBudget:
    @pytest.mark.parametrize(
        ("total", "num_envs", "period", "steps"),
        [(10, 1, 4, 12), (12, 1, 4, 12), (10, 4, 1, 12), (101, 2, 8, 104), (5, 1, 1, 5)],
    )
    def test_is_rounded_up_to_whole_updates_and_vector_steps(self, tmp_path, total, num_envs, period, steps):
        fields = {"train_period_env_steps": period, "replay_capacity": 200, "hidden": [4]}
        result = learn(tmp_path, "dqn", "CartPole-v1", total_steps=total, num_envs=num_envs, **fields)
        assert result.summary["env_steps"] == steps
        assert result.summary["total_steps"] == total

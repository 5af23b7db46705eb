"""Learning from windows: targets, losses and gradients against a loop over steps; priorities; mazes to remember."""

from __future__ import annotations

import dataclasses
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.agents.dqn import Config
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.seeding import EpisodeSeeds
from rl_lab.training.loop import start, train
from rl_lab.updates.td import IDENTITY_SCALE, RESCALED, select
from rl_lab.updates.td_windows import WindowedTDLoss, batch_of_windows, mixed_priorities, n_steps_in_windows
from toys import CueRecall, Unaware, agent_on, interact, problem_on, sample, vector
from worlds import ACTIONS, CARRY, World, filled

# A network so plain that its twin in numpy is a line ---------------------------------------------------

HIDDEN = CARRY[0].shape[1] + CARRY[1][0].size


class Remembering(torch.nn.Module):
    """h' = tanh(W obs / 100 + U h), q = V h'; the carry is h in the two parts of `worlds.CARRY`."""

    def __init__(self, seed: int):
        super().__init__()
        rng = np.random.default_rng(seed)
        for name, shape in {"w": (2, HIDDEN), "u": (HIDDEN, HIDDEN), "v": (HIDDEN, ACTIONS)}.items():
            setattr(self, name, torch.nn.Parameter(torch.from_numpy(rng.normal(size=shape))))

    def forward(self, obs, state, is_first):
        assert is_first.shape == obs.shape[:2]
        assert not is_first.any()
        h, values = torch.cat([part.flatten(1).double() for part in state], dim=1), []
        for seen in obs.double():
            h = torch.tanh(seen / 100 @ self.w + h @ self.u)
            values.append(h @ self.v)
        return torch.stack(values), (h[:, :2], h[:, 2:].reshape(-1, 1, 3))

    def step(self, obs, h):
        """One step in numpy: values [A] and h'."""
        w, u, v = (p.detach().numpy() for p in (self.w, self.u, self.v))
        h = np.tanh(obs.astype(np.float64) / 100 @ w + h @ u)
        return h @ v, h


class Legal(World):
    """Leaves one action legal at least."""

    def _mask(self):
        mask = super()._mask()
        return None if mask is None else mask | (np.arange(ACTIONS) == 0)


def pohlen(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def pohlen_inverse(x):
    root = np.sqrt(1 + 4e-3 * (np.abs(x) + 1 + 1e-3))
    return np.sign(x) * (((root - 1) / 2e-3) ** 2 - 1)


@dataclasses.dataclass
class Brute:
    """What should come out, one window and one step after the other."""

    online: Remembering
    target: Remembering
    n_steps: int
    gamma: float
    burn_in: int
    double: bool
    rescaling: bool

    def unroll(self, network, steps, env):
        """The values at each observation of a window, its last successor included."""
        h = np.concatenate([np.ravel(part[env]) for part in steps[0].state]).astype(np.float64)
        values = []
        for obs in [step.obs[env] for step in steps] + [steps[-1].next_obs[env]]:
            q, h = network.step(obs, h * (0 if not values and steps[0].is_first[env] else 1))
            values.append(q)
        return values

    def window(self, steps, env):
        """Yield (place, Q, target) of each step that is learned from."""
        online, target = (self.unroll(network, steps, env) for network in (self.online, self.target))
        for t, step in enumerate(steps):
            if t < self.burn_in and not steps[0].is_first[env]:
                continue
            total, m = 0.0, 0
            while True:
                total += self.gamma**m * np.float32(steps[t + m].reward[env])
                ended = steps[t + m].terminated[env]
                m += 1
                if ended or m == self.n_steps or t + m == len(steps):
                    break
            if not ended:
                total += self.gamma**m * self.value(online[t + m], target[t + m], steps[t + m - 1], env)
            yield t, online[t][step.action[env]], pohlen(total) if self.rescaling else total

    def value(self, online, target, step, env):
        legal = range(ACTIONS) if step.next_mask is None else np.flatnonzero(step.next_mask[env])
        worth = pohlen_inverse(target) if self.rescaling else target
        best = max(legal, key=lambda a: online[a]) if self.double else max(legal, key=lambda a: worth[a])
        return worth[best]


def huber(error):
    return np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5)


windowed = given(
    seed=st.integers(0, 10_000),
    num_envs=st.integers(1, 3),
    mean_length=st.integers(1, 12),
    has_mask=st.booleans(),
    burn_in=st.integers(0, 4),
    learned=st.integers(1, 6),
    n_steps=st.integers(1, 5),
    double=st.booleans(),
    rescaling=st.booleans(),
    prioritised=st.booleans(),
)


class Drawn:
    """A batch out of a world, with the loss that learns from it."""

    def __init__(self, world, burn_in, learned, n_steps, double, rescaling, prioritised, gamma=0.9):
        self.length, capacity = burn_in + learned, 60 * world.num_envs
        replay = SequenceReplay(
            capacity, world.spec(), CARRY, self.length, burn_in=burn_in,
            sampler=Prioritised(0.7) if prioritised else None,
        )  # fmt: skip
        self.twin = filled(replay, world, 100, capacity)
        if prioritised:
            first = replay.sample(32, np.random.default_rng(1))
            replay.update_priorities(first.index, np.random.default_rng(2).random(32) * 5)
        self.sequences = replay.sample(16, np.random.default_rng(0), 0.5)
        self.batch = batch_of_windows(self.sequences, gamma, n_steps, lambda x: torch.from_numpy(x.copy()))
        self.online, self.target = Remembering(1), Remembering(2)
        self.loss = WindowedTDLoss(double, "huber", RESCALED if rescaling else IDENTITY_SCALE, burn_in)
        self.brute = Brute(self.online, self.target, n_steps, gamma, burn_in, double, rescaling)

    def run(self):
        with torch.no_grad():
            batch = self.loss.add_next_values(self.target, self.batch)
        return self.loss(self.online, select(batch, 0))

    def expected(self):
        """Yield (window, place, Q, target) of all that is learned from."""
        for b, (row, env) in enumerate(self.twin.find(self.sequences.obs[0])):
            steps = self.twin.stretch(row, env, self.length)
            for t, q, target in self.brute.window(steps, env):
                yield b, t, q, target


class TestAgainstALoop:
    @settings(deadline=None, max_examples=120)
    @windowed
    def test_targets_and_loss(self, seed, num_envs, mean_length, has_mask, **fields):
        drawn = Drawn(Legal(num_envs, seed, mean_length=mean_length, has_mask=has_mask), **fields)
        loss, q, target = drawn.run()
        weight = drawn.sequences.weight if fields["prioritised"] else np.ones(16)
        learned, total = np.zeros(q.shape, np.bool_), 0.0
        for b, t, expected_q, expected_target in drawn.expected():
            learned[t, b] = True
            assert q[t, b].item() == pytest.approx(expected_q, abs=1e-5)
            assert target[t, b].item() == pytest.approx(expected_target, abs=1e-5)
            total += weight[b] * huber(expected_q - expected_target)
        np.testing.assert_array_equal(drawn.sequences.learned, learned)
        assert learned.any(axis=0).all()  # no window is drawn in vain
        assert loss.item() == pytest.approx(total / learned.sum(), abs=1e-5)
        np.testing.assert_array_equal((drawn.batch.weight[0] > 0).numpy(), learned)

    @settings(deadline=None, max_examples=30)
    @windowed
    def test_gradients(self, seed, num_envs, mean_length, has_mask, **fields):
        """Each window alone, step by step, its carry cut off from the burn-in."""
        drawn = Drawn(Legal(num_envs, seed, mean_length=mean_length, has_mask=has_mask), **fields)
        loss, _, target = drawn.run()
        loss.backward()
        found = [p.grad.clone() for p in drawn.online.parameters()]
        drawn.online.zero_grad()
        s, total = drawn.sequences, torch.zeros((), dtype=torch.float64)
        for b in range(16):
            state = tuple(torch.from_numpy(part[b : b + 1]) for part in s.state)
            for t in range(drawn.length):
                if t == fields["burn_in"] and not s.opens[b]:
                    state = tuple(part.detach() for part in state)
                obs = torch.from_numpy(s.obs[t : t + 1, b : b + 1])
                q, state = drawn.online(obs, state, torch.zeros(1, 1, dtype=torch.bool))
                if s.learned[t, b]:
                    one = torch.nn.functional.huber_loss(q[0, 0, s.action[t, b]], target[t, b].double())
                    total = total + one * (1.0 if s.weight is None else float(s.weight[b]))
        (total / s.learned.sum()).backward()
        for ours, p in zip(found, drawn.online.parameters(), strict=True):
            torch.testing.assert_close(ours, p.grad, atol=1e-5, rtol=1e-5)

    def test_one_window_by_hand(self):
        """Rewards 1, 2, 4, 8 at gamma 0.5; a life is lost at the second step, the fourth is the last valid."""
        reward = np.array([[1.0, 2.0, 4.0, 8.0, 99.0]], np.float32).T
        flags = np.array([[0, 1, 0, 0, 0]], np.bool_).T
        valid = np.array([[1, 1, 1, 1, 0]], np.bool_).T
        found = n_steps_in_windows(reward, flags, valid, 0.5, 3)
        assert found.reward[:4, 0].tolist() == [1 + 1, 2, 4 + 4, 8]
        assert found.discount[:4, 0].tolist() == [0.25, 0.5, 0.25, 0.5]
        assert found.terminated[:4, 0].tolist() == [True, True, False, False]
        assert found.last[:4, 0].tolist() == [1, 1, 3, 3]


class TestBurnIn:
    def drawn(self):
        return Drawn(World(2, 3, mean_length=9), 4, 3, 2, True, False, False)

    def test_neither_its_steps_nor_the_carry_before_get_a_gradient(self):
        drawn = self.drawn()
        obs = drawn.batch.obs.requires_grad_()
        state = tuple(part.double().requires_grad_() for part in drawn.batch.state)
        drawn.batch = drawn.batch._replace(state=state)
        drawn.run()[0].backward()
        opens = drawn.sequences.opens
        assert opens.any()
        assert not opens.all()
        assert (obs.grad[0, :4][:, ~opens] == 0).all()
        assert all((part.grad[0][~opens] == 0).all() for part in state)
        assert (obs.grad[0, 4][~opens] != 0).any()
        assert (obs.grad[0, :4][:, opens] != 0).any()  # an episode's first steps are learned from
        assert (drawn.batch.weight[0, :4][:, ~opens] == 0).all()
        assert (drawn.batch.weight[0, :4][:, opens] > 0).any()

    def test_the_carry_behind_it_is_that_of_single_steps(self):
        drawn, carries = self.drawn(), []
        network = drawn.online

        def watched(obs, state, is_first):
            carries.append(state)
            return network(obs, state, is_first)

        drawn.loss._unroll(watched, select(drawn.batch, 0))
        state = tuple(torch.from_numpy(part) for part in drawn.sequences.state)
        for t in range(4):
            _, state = network(
                torch.from_numpy(drawn.sequences.obs[t : t + 1]), state, torch.zeros(1, 16) > 0
            )
        assert len(carries) == 2
        for found, expected in zip(carries[1], state, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("memory_size", [6])
    def test_of_an_lstm_equals_unrolling_at_once(self, memory_size):
        """Values don't depend on where the gradient is cut."""
        problem = problem_on(CueRecall, num_envs=2, total_steps=80)
        fields = {"memory": "lstm", "memory_size": memory_size, "sequence_length": 5, "hidden": (8,)}
        agent = interact(agent_on(problem, **fields, burn_in_steps=2, learning_starts_env_steps=80), problem)
        batch = select(agent.updates.loss.batch(sample(agent), agent.config.batch_size, torch.as_tensor), 0)
        burned = agent.updates.loss._unroll(agent.trained.network, batch)
        whole = agent.trained.network(
            batch.obs, batch.state, torch.zeros(batch.obs.shape[:2], dtype=torch.bool)
        )[0]
        torch.testing.assert_close(burned, whole, atol=1e-6, rtol=0)


class TestPriorities:
    def test_mix_the_largest_and_the_mean_of_what_is_learned(self):
        errors = np.array([[9.0, -1.0], [1.0, 3.0], [-4.0, 2.0], [1.0, 7.0]])
        learned = np.array([[0, 1], [1, 1], [1, 1], [1, 0]], np.bool_)
        found = mixed_priorities(errors, learned, 0.9)
        np.testing.assert_allclose(found, [0.9 * 4 + 0.1 * 2, 0.9 * 3 + 0.1 * 2])
        np.testing.assert_allclose(mixed_priorities(errors, learned, 0.0), [2, 2])
        np.testing.assert_allclose(mixed_priorities(errors, learned, 1.0), [4, 3])

    def test_of_windows_follow_a_gradient_step(self):
        problem = problem_on(CueRecall, num_envs=2, total_steps=60)
        agent = agent_on(
            problem, memory="lstm", prioritised=True, sequence_length=4, burn_in_steps=1, n_steps=2,
            priority_eta=0.7, priority_alpha=0.5, learning_starts_env_steps=60, batch_size=8,
        )  # fmt: skip
        interact(agent, problem)
        drawn = sample(agent)
        batch = agent.updates.loss.batch(drawn, agent.config.batch_size, torch.as_tensor)
        with torch.no_grad():
            one = select(agent.updates.loss.add_next_values(agent.target.network, batch), 0)
            _, q, target = agent.updates.loss(agent.trained.network, one)
        agent.learn(drawn)
        leaves = agent.buffer.replay._sampler.tree.leaves
        for b, index in enumerate(drawn.index):
            size = (target - q)[:, b].abs().numpy()[drawn.learned[:, b]]
            assert leaves[index] == pytest.approx(
                (0.7 * size.max() + 0.3 * size.mean() + 1e-6) ** 0.5, abs=1e-5
            )

    def test_figures_leave_out_what_is_not_learned_from(self):
        problem = problem_on(CueRecall, num_envs=2, total_steps=60)
        agent = agent_on(
            problem, memory="lstm", sequence_length=6, burn_in_steps=1, learning_starts_env_steps=60
        )
        interact(agent, problem)
        drawn = sample(agent)
        outcome = agent.learn(drawn)
        assert outcome.prediction.shape == outcome.target.shape == (1, drawn.learned.sum())
        assert drawn.learned.sum() < drawn.valid.sum() < drawn.valid.size


class TestPrioritisedWindows:
    def filled(self, alpha=1.0, **fields):
        world = World(2, 4, mean_length=6)
        replay = SequenceReplay(80, world.spec(), CARRY, 4, sampler=Prioritised(alpha), **fields)
        return replay, filled(replay, world, 70, 80)

    @pytest.mark.parametrize("fields", [{}, {"period": 3}, {"period": 2, "burn_in": 2}])
    def test_draws_follow_the_priorities(self, fields):
        replay, _ = self.filled(**fields)
        every = np.unique(replay.sample(4_000, np.random.default_rng(0)).index)
        priority = 1.0 + np.arange(len(every)) % 7
        replay.update_priorities(every, priority)
        drawn = replay.sample(20_000, np.random.default_rng(0), 1.0)
        share = np.array([(drawn.index == k).mean() for k in every])
        np.testing.assert_allclose(share, priority / priority.sum(), atol=2e-3)
        for b in range(20):
            k = np.flatnonzero(every == drawn.index[b])[0]
            assert drawn.weight[b] == pytest.approx(1 / priority[k], rel=1e-4)

    def test_a_new_window_has_the_largest_priority_and_only_once_it_is_whole(self):
        world = World(1, 0, mean_length=50)
        replay = SequenceReplay(30, world.spec(), CARRY, 4, sampler=Prioritised(1.0))
        for written in range(1, 25):
            replay.add(world.step())
            leaves = replay._sampler.tree.leaves
            assert np.count_nonzero(leaves) == max(0, written - 3)
            if written == 10:
                replay.update_priorities(np.array([2]), np.array([5.0]))
            if written > 10:
                assert leaves[written - 4] == pytest.approx(5.0)

    def test_priorities_of_windows_that_are_gone_or_not_whole_are_left_alone(self):
        replay, _ = self.filled(period=2)
        before = replay._sampler.tree.leaves.copy()
        replay.update_priorities(np.flatnonzero(before == 0), np.full((before == 0).sum(), 9.0))
        np.testing.assert_array_equal(replay._sampler.tree.leaves, before)


class TestConfig:
    def test_each_field_reaches_what_it_governs(self):
        fields = {
            "memory": "lstm", "sequence_length": 12, "sequence_period_steps": 4, "burn_in_steps": 5,
            "prioritised": True, "priority_alpha": 0.9, "priority_eta": 0.8, "value_rescaling": True, "double": True,
            "gamma": 0.9, "n_steps": 4,
        }  # fmt: skip
        agent = agent_on(problem_on(CueRecall, total_steps=60), **fields, replay_capacity=50)
        interact(agent, problem_on(CueRecall, total_steps=30))
        assert (agent.buffer.replay.length, agent.buffer.replay.period, agent.buffer.replay.burn_in) == (
            12,
            4,
            5,
        )
        assert agent.buffer.replay._sampler.alpha == 0.9
        assert agent.updates.loss == WindowedTDLoss(True, "huber", RESCALED, 5, 0.9, 4, 0.8)
        assert Config().priority_eta == 0.9

    @pytest.mark.parametrize("memory", ["none", "lstm"])
    def test_values_are_shown_in_rewards_whatever_the_network_s_scale(self, memory):
        problem = problem_on(CueRecall)
        plain, scaled = (agent_on(problem, memory=memory, value_rescaling=flag) for flag in (False, True))
        obs, first = np.eye(5, dtype=np.float32), np.ones(5, np.bool_)
        acting = [agent.policy(explore=False) for agent in (plain, scaled)]
        shown = [p.inspect(obs, p.initial_state(5), first)["q_values"] for p in acting]
        np.testing.assert_allclose(shown[1], pohlen_inverse(shown[0].astype(np.float64)), atol=1e-6)

    def test_a_reward_that_is_always_the_same_is_worth_that_of_eternity_in_any_scale(self):
        from toys import ConstantReward

        problem = problem_on(ConstantReward, total_steps=1_500)
        agent = agent_on(
            problem, gamma=0.8, learning_rate=3e-3, learning_starts_env_steps=50, target_period_env_steps=20,
            hidden=(16,), batch_size=32, value_rescaling=True,
        )  # fmt: skip
        acting = interact(agent, problem).policy(explore=False)
        found = acting.inspect(np.zeros((1, 1), np.float32), (), np.ones(1, np.bool_))["q_values"]
        np.testing.assert_allclose(found, 5.0, atol=0.1)


# Mazes -------------------------------------------------------------------------------------------------


class TMaze(gymnasium.Env):
    """Tells in the first room whether to turn left or right behind a corridor, by a light that is on or off.

    Nothing but the light tells an episode's beginning, and nothing its end: the last action is the turn.
    Optimal: 1. Without memory: 0.5. The corridor has `length` steps, give or take up to `spread`.
    """

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length: int, spread: int = 0):
        self.length, self.spread = length, spread

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.light = int(self.np_random.integers(2))
        self.left = self.length + int(self.np_random.integers(-self.spread, self.spread + 1))
        return np.array([self.light], np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return np.zeros(1, np.float32), float(over and action == self.light), over, False, {}


FIELDS = {
    "gamma": 0.95, "learning_rate": 3e-3, "learning_starts_env_steps": 400, "train_period_env_steps": 8,
    "target_period_env_steps": 200, "batch_size": 32, "hidden": (16,), "memory_size": 16, "double": True,
    "dueling": True, "prioritised": True, "n_steps": 3, "epsilon_final": 0.02,
}  # fmt: skip
R2D2 = {"sequence_length": 12, "burn_in_steps": 4, "sequence_period_steps": 4, "value_rescaling": True}


def score(policy, make, episodes=200):
    return evaluate(policy, vector(make, 4), episodes=episodes, seed=1).returns.mean()


def learned(make, steps, seed=0, **fields):
    problem = problem_on(make, num_envs=4, total_steps=steps, seed=seed)
    return interact(agent_on(problem, **FIELDS | fields), problem).policy(explore=False)


def learned_unaware(make, steps, **fields):
    """Learn with the reset mask withheld, in acting and learning alike."""
    problem = problem_on(make, num_envs=4, total_steps=steps)
    agent, envs = agent_on(problem, **FIELDS | fields), vector(make, 4)
    observe, acting = agent.observe, Unaware(agent.policy(explore=True))
    agent.observe = lambda step: observe(dataclasses.replace(step, is_first=np.zeros_like(step.is_first)))
    seeds = EpisodeSeeds(problem.seed, 4)
    for _ in train(agent, acting, envs, seeds, steps, start(acting, envs, seeds)):
        pass
    return Unaware(agent.policy(explore=False))


class TestLearning:
    def test_a_cue_is_recalled_with_everything_on(self):
        fields = {"memory": "lstm", "sequence_length": 3, "value_rescaling": True}
        assert score(learned(CueRecall, 6_000, **fields), CueRecall) >= 0.95

    def test_where_episodes_begin_must_be_told(self):
        """Corridors of 1 to 11 steps: who isn't told can at best trust any light of the last 11 steps, for 0.87."""
        maze, fields = partial(TMaze, 6, 5), {"sequence_length": 10, "sequence_period_steps": 5}
        assert score(learned(maze, 10_000, memory="lstm", **fields), maze) >= 0.95
        assert score(learned_unaware(maze, 10_000, memory="lstm", **fields), maze, 600) < 0.91

"""Learning from windows: targets, losses and gradients against a loop over steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.updates.td import IDENTITY_SCALE, RESCALED, select
from rl_lab.updates.td_windows import WindowedTDLoss, batch_of_windows, n_steps_in_windows
from toys import CueRecall, agent_on, interact, problem_on, sample
from worlds import ACTIONS, CARRY, World, filled

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
    @settings(deadline=None, max_examples=60)
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

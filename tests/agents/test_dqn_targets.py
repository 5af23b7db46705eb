"""What distributions are learned from, beside a twin that reads the episodes: ends, cuts, n steps and legal actions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from return_twins import bellman_projected, greedy_action, quantile_huber
from rl_lab.updates.draws import Given
from rl_lab.updates.td import select
from toys import Staggered, StaggeredMasks, agent_on, copied, interact, problem_on

GAMMA, N_STEPS, NUM_ENVS = 0.9, 3, 3
V_MIN, V_MAX, ATOMS = -2.0, 2.0, 9
FIELDS = {
    "n_steps": N_STEPS, "gamma": GAMMA, "double": True, "hidden": (8,), "v_min": V_MIN, "v_max": V_MAX, "atoms": ATOMS,
    "quantiles": 5, "fractions": 4, "target_fractions": 3, "cosines": 4, "learning_starts_env_steps": 10_000,
}  # fmt: skip


class Played:
    """An agent that has played without learning, and the steps that it has stored."""

    def __init__(self, distribution: str):
        problem = problem_on(StaggeredMasks, num_envs=NUM_ENVS, total_steps=40 * NUM_ENVS)
        self.agent, self.steps = agent_on(problem, distribution=distribution, **FIELDS), []
        interact(self.agent, problem, lambda step: self.steps.append(copied(step)))
        for seed, network in enumerate((self.agent.trained.network, self.agent.target.network)):
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():  # values that differ by more than rounding, other ones in the target
                for p in network.parameters():
                    p += 0.7 * torch.randn(p.shape, generator=generator)

    def place_of(self, obs):
        """The vector step and the environment at which it was seen; observations are random numbers."""
        return next(
            (t, i) for t, step in enumerate(self.steps) for i in range(NUM_ENVS) if (step.obs[i] == obs).all()
        )

    def window(self, t, i):
        """The discounted rewards of up to n steps of environment i, and the steps: an end or a cut is the last."""
        steps = self.steps[t : t + N_STEPS]
        over = [k for k, step in enumerate(steps) if step.terminated[i] or step.truncated[i]]
        steps = steps[: over[0] + 1] if over else steps
        return sum(GAMMA**k * float(step.reward[i]) for k, step in enumerate(steps)), steps

    def outputs(self, network, obs, given):
        with torch.no_grad():
            return network(torch.from_numpy(obs[None]), (), None, given)[0][0]


def probabilities(outputs):
    return outputs.softmax(-1).numpy()


@pytest.mark.parametrize("distribution", ["categorical", "quantile", "implicit"])
def test_targets_and_losses_are_those_of_the_episodes_that_were_played(distribution):
    played = Played(distribution)
    agent, support = played.agent, np.linspace(V_MIN, V_MAX, ATOMS)
    loss, online, target = agent.updates.loss, agent.updates.online, agent.updates.target
    drawn = agent.buffer.sample(64, np.random.default_rng(0))
    batch = select(loss.add_next_values(target, agent.updates.batch(drawn)), 0)
    with torch.no_grad():
        total, q, wanted, errors = loss(online, batch)
    summed, kinds = 0.0, set()
    for row, obs in enumerate(drawn.obs):
        t, i = played.place_of(obs)
        reward, steps = played.window(t, i)
        last = steps[-1]
        kinds.add((bool(last.terminated[i]), bool(last.truncated[i]), len(steps)))
        keeps = 0.0 if last.terminated[i] else GAMMA ** len(steps)
        mine, chooses, after = (
            played.outputs(network, seen, row_of(drawn_for, row))
            for network, seen, drawn_for in (
                (online, obs, batch.draws and batch.draws.online),
                (online, last.next_obs[i], batch.draws and batch.draws.online),
                (target, last.next_obs[i], batch.draws and batch.draws.target),
            )
        )
        mine = mine[played.steps[t].action[i]]
        mask = last.next_mask[i]
        if distribution == "categorical":
            best = greedy_action(probabilities(chooses) @ support, mask)
            p, own = probabilities(after)[best], mine.log_softmax(-1).numpy()
            atoms = reward + keeps * support
            expected_q, expected = np.exp(own) @ support, p @ atoms
            m = bellman_projected(atoms, p, V_MIN, V_MAX, ATOMS)
            size = sum(x * (np.log(x) - y) for x, y in zip(m, own, strict=True) if x > 1e-9)
            error = size
        else:
            best = greedy_action(chooses.mean(-1).tolist(), mask)
            atoms = reward + keeps * after[best].numpy()
            expected_q, expected = mine.mean().item(), atoms.mean()
            at = (
                [0.1, 0.3, 0.5, 0.7, 0.9]
                if distribution == "quantile"
                else batch.draws.online.fractions[row].tolist()
            )
            size, error = quantile_huber(mine.tolist(), at, atoms), expected - expected_q
        summed += size / len(drawn.obs)
        found = q[row].item(), wanted[row].item(), errors[row].item()
        assert found == pytest.approx((expected_q, expected, error), abs=1e-4)
    assert total.item() == pytest.approx(summed, abs=1e-4)
    assert kinds >= {
        (True, False, 1),
        (True, False, 3),
        (False, True, 1),
        (False, True, 3),
        (False, False, 3),
    }


def row_of(given, row):
    return None if given is None or given.fractions is None else Given(None, given.fractions[row : row + 1])


def test_munchausen_targets_of_windows_are_those_of_a_step_by_step_unroll():
    """The twin unrolls the target network a step at a time, and follows each step's rewards to the window's end."""
    burn_in, length, temperature, alpha = 2, 5, 0.5, 0.9
    problem = problem_on(Staggered, num_envs=2, total_steps=80)
    agent = agent_on(
        problem, munchausen=True, munchausen_temperature=temperature, munchausen_alpha=alpha, memory="gru",
        memory_size=4, sequence_length=length, burn_in_steps=burn_in, n_steps=2, hidden=(6,), gamma=GAMMA,
        learning_starts_env_steps=10_000, batch_size=4,
    )  # fmt: skip
    interact(agent, problem)
    for seed, network in enumerate((agent.trained.network, agent.target.network)):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in network.parameters():
                p += 0.7 * torch.randn(p.shape, generator=generator)
    drawn = agent.buffer.sample(32, np.random.default_rng(0))
    loss, network = agent.updates.loss, agent.target.network
    batch = select(loss.add_next_values(agent.updates.target, agent.updates.batch(drawn)), 0)
    with torch.no_grad():
        wanted = loss(agent.updates.online, batch)[2]
    checked = summed = 0
    for w in range(32):
        q = unrolled(network, drawn, w)
        log_policy = (q / temperature).log_softmax(-1)
        for t in (t for t in range(length) if drawn.learned[t, w]):
            steps, over = [t], False
            while len(steps) < 2 and not drawn.terminated[steps[-1], w]:
                if steps[-1] + 1 >= length or not drawn.valid[steps[-1] + 1, w]:
                    break
                steps.append(steps[-1] + 1)
            over = drawn.terminated[steps[-1], w]
            bonus = alpha * max(temperature * float(log_policy[t, drawn.action[t, w]]), -1.0)
            expected = bonus + sum(GAMMA**k * drawn.reward[s, w] for k, s in enumerate(steps))
            after = steps[-1] + 1
            soft = (log_policy[after].exp() * (q[after] - temperature * log_policy[after])).sum()
            expected += 0.0 if over else GAMMA ** len(steps) * float(soft)
            assert wanted[t, w].item() == pytest.approx(expected, abs=1e-4)
            checked, summed = checked + 1, summed + (len(steps) == 2)
    assert min(checked, summed) > 30


def unrolled(network, drawn, w):
    """Return the values [T + 1, A] of one window, from its stored carry on."""
    state, values = tuple(torch.as_tensor(part[w : w + 1]) for part in drawn.state), []
    with torch.no_grad():
        for obs in drawn.obs[:, w : w + 1]:
            q, state = network(torch.as_tensor(obs), state, torch.zeros(1, dtype=torch.bool))
            values.append(q[0])
    return torch.stack(values)

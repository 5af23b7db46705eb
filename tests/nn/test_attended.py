"""The weights of attention that `inspect` shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import FEATURES, SIZE, core_of, draw, make_q_network, never
from rl_lab.nn.actor_critic import StochasticPolicy, make_acting_outputs, make_actor_critic
from rl_lab.nn.attended import attention_figures
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.joint_distributions import make_distribution

CPU = torch.device("cpu")
SPACE = spaces.Box(-1, 1, (FEATURES,))


def test_the_weights_are_those_of_each_key_by_hand():
    """The softmax of queries times keys plus the bias of their distance, over a window that isn't full."""
    core, x = core_of("attention"), draw(1, 3, 1, FEATURES)
    state = core(x[:2], core.initial_state(1), never(2, 1))[1]
    found = core.weights(x[2], state)
    block, inputs = core.blocks[0], core.project(x[:, 0])
    normal = torch.nn.functional.layer_norm(inputs, (SIZE,), block.norm.weight, block.norm.bias)
    query = block.query(normal[-1]).unflatten(0, (block.heads, -1))  # [heads, size / heads]
    key = block.key_value(normal)[:, :SIZE].unflatten(1, (block.heads, -1))  # [3, heads, size / heads]
    score = (key * query).sum(-1) * query.shape[1] ** -0.5 + block.nearness[:, [2, 1, 0]].T
    expected = score.softmax(0).mean(1)
    torch.testing.assert_close(found, torch.cat((torch.zeros(1), expected))[None])


@pytest.mark.parametrize("layers", [1, 2])
def test_they_are_what_acting_computes(layers):
    """With values that don't differ, only the weights' sum matters; with a key moved, those of the step change."""
    core, x = core_of("attention", layers=layers), draw(2, 6, 2, FEATURES)
    seen = []
    hooks = [
        block.register_forward_hook(lambda b, args, y: seen.append(b.weights(*args))) for block in core.blocks
    ]
    state = core(x[:5], core.initial_state(2), never(5, 2))[1]
    seen.clear()
    core(x[5:], state, never(1, 2))
    acted = torch.stack(seen).mean(dim=(0, 2))[:, 0]
    for hook in hooks:
        hook.remove()
    found = core.weights(x[5], state)
    torch.testing.assert_close(found, acted, atol=0, rtol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert (found > 0).all()


def test_policies_show_them_and_forget_where_an_episode_begins():
    network = make_q_network(SPACE, 2, memory="attention", memory_size=SIZE, context=4)
    figures = attention_figures(network, CPU)
    obs, state = np.zeros((1, FEATURES), np.float32), tuple(p.numpy() for p in network.initial_state(1))
    for _ in range(2):
        _, carry = network(
            torch.from_numpy(obs), tuple(map(torch.from_numpy, state)), torch.zeros(1, dtype=bool)
        )
        state = tuple(part.detach().numpy() for part in carry)
    later = figures(obs, state, np.zeros(1, bool))["attention"]
    assert (later > 0).tolist() == [[False, True, True, True]]
    assert figures(obs, state, np.ones(1, bool))["attention"].tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_an_actor_critic_shows_its_policys():
    distribution = make_distribution(spaces.Discrete(2))
    fields = NetworkFields(memory="attention", memory_size=SIZE, context=4)
    network = make_actor_critic(SPACE, distribution, fields)
    policy = StochasticPolicy(
        make_acting_outputs(network, CPU),
        distribution,
        lambda n: tuple(p.numpy() for p in network.initial_state(n)),
        figures=attention_figures(network, CPU),
    )
    obs, first = np.zeros((2, FEATURES), np.float32), np.ones(2, bool)
    assert policy.inspect(obs, policy.initial_state(2), first)["attention"].shape == (2, 4)


def test_without_attention_there_are_none():
    assert attention_figures(make_q_network(SPACE, 2), CPU) is None
    assert attention_figures(make_q_network(SPACE, 2, memory="lstm"), CPU) is None

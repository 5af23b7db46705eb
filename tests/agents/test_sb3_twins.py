"""Gradient steps of dqn and qr-dqn are those of SB3 and sb3-contrib, with the zoo's fields on both sides."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import nn

from rl_lab.replay.transitions import Transitions
from rl_lab.training.registry import config_of, preset_fields
from rl_lab.updates.gradients import set_learning_rate
from toys import agent_on, problem_on

GRADIENT_STEPS = 12


def fields_of(agent: str, preset: str) -> dict:
    """Return the fields of a preset that are the agent's own."""
    names = config_of(agent).__dataclass_fields__
    return {name: value for name, value in preset_fields(agent, preset).items() if name in names}


def theirs(agent: str, env_id: str, preset: str) -> OffPolicyAlgorithm:
    """Return SB3's model of an agent with a replay of random play, cut off by time limits now and then."""
    config = config_of(agent)(**fields_of(agent, preset))
    env = gymnasium.wrappers.TimeLimit(gymnasium.make(env_id).unwrapped, 15)
    model = config.ALGORITHM(
        "MlpPolicy", env, seed=3, device="cpu", **config.arguments(1) | {"learning_starts": 10**6}
    )
    model.learn(600)
    model.set_logger(configure(format_strings=[]))
    return model


def recording(model: OffPolicyAlgorithm) -> list:
    """Let what `model` samples be kept in the list that is returned."""
    sampled, sample = [], model.replay_buffer.sample

    def kept(*args, **kwargs):
        sampled.append(sample(*args, **kwargs))
        return sampled[-1]

    model.replay_buffer.sample = kept
    return sampled


def layers_of(model: OffPolicyAlgorithm) -> list[nn.Linear]:
    network = model.quantile_net if hasattr(model, "quantile_net") else model.q_net
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]


def in_lab_order(rows: torch.Tensor, actions: int) -> torch.Tensor:
    """Return outputs, [quantiles * actions, ...] in SB3's order, as [actions * quantiles, ...]."""
    return rows.unflatten(0, (-1, actions)).transpose(0, 1).flatten(0, 1)


def in_lab_names(model: OffPolicyAlgorithm, names: list[str]) -> dict[str, torch.Tensor]:
    """Return the weights of SB3's network under the names of the lab's, which are in the same order."""
    own = [p.detach().clone() for layer in layers_of(model) for p in (layer.weight, layer.bias)]
    own[-2:] = [in_lab_order(p, int(model.action_space.n)) for p in own[-2:]]
    return dict(zip(names, own, strict=True))


def transitions(data, gamma: float) -> Transitions:
    """Return what SB3 sampled as the lab's replay would give it."""
    rows = len(data.rewards)
    return Transitions(
        obs=data.observations.numpy(), action=data.actions.numpy()[:, 0].astype(np.int64),
        reward=data.rewards.numpy()[:, 0], discount=np.full(rows, gamma, np.float32),
        terminated=data.dones.numpy()[:, 0].astype(np.bool_), next_obs=data.next_observations.numpy(),
        next_mask=None, weight=None, index=np.arange(rows), age=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
@pytest.mark.parametrize(
    ("name", "sb3_name", "kind"), [("dqn", "sb3-dqn", "none"), ("qr-dqn", "sb3-qrdqn", "quantile")]
)
def test_gradient_steps_on_the_same_batches_give_the_same_weights(name, sb3_name, kind, env_id):
    preset = f"zoo:{env_id}"
    model, fields = theirs(sb3_name, env_id, preset), fields_of(name, preset)
    agent = agent_on(problem_on(partial(gymnasium.make, env_id)), distribution=kind, **fields)
    network, target = agent.trained.network, agent.target.network
    names = [name for name, _ in network.named_parameters()]
    for net in (network, target):
        net.load_state_dict(in_lab_names(model, names))
    sampled = recording(model)
    model.train(GRADIENT_STEPS, fields["batch_size"])
    set_learning_rate(agent.trained.optimiser, fields["learning_rate"])
    losses = [float(agent.learn(transitions(data, fields["gamma"])).loss) for data in sampled]
    assert any(data.dones.any() for data in sampled) == (env_id == "CartPole-v1")
    assert np.mean(losses) == pytest.approx(model.logger.name_to_value["train/loss"], rel=1e-4)
    found, expected = network.state_dict(), in_lab_names(model, names)
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=2e-5)
        assert not torch.equal(found[name], target.state_dict()[name])  # which has the weights from before

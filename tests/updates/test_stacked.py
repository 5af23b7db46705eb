"""Networks that learn as one program: each does what it would do alone, and none knows of the others."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import nn

from boxes import uint8
from networks import make_q_network
from rl_lab.replay.transitions import Transitions
from rl_lab.updates import stacked, stacked_q
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.gradients import Clip, clip_gradients
from rl_lab.updates.optimisers import OPTIMISERS, POLICY_OPTIMISERS
from rl_lab.updates.q_updates import QUpdates, figures_of
from rl_lab.updates.stacked import Stack, clip_stacked, joint_forward, stack_weights, traced_call
from rl_lab.updates.stacked_q import StackedQUpdates, figures_of_each
from rl_lab.updates.td import RESCALED, TDLoss
from rl_lab.updates.trained import optimiser_state

SPACE = spaces.Box(-1.0, 1.0, (4,), np.float32)
NETWORKS, ACTIONS, BATCH = 3, 3, 8
VARIANTS = {
    "vanilla": (TDLoss(False, "huber"), Clip(None, 10.0), {}, "adam"),
    "double, dueling, rescaled, clipped": (
        TDLoss(True, "squared", RESCALED), Clip(0.05, 0.1), {"dueling": True}, "adam",
    ),
    "normalised": (TDLoss(True, "huber"), Clip(None, 0.5, True), {"layer_norm": True}, "radam"),
}  # fmt: skip


def networks(space: spaces.Space = SPACE, **fields) -> list[nn.Module]:
    """Return networks with different weights, always the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [make_q_network(space, ACTIONS, hidden=(16,), **fields) for _ in range(NETWORKS)]


class Learners:
    """The same networks twice: learning as one program, and each alone."""

    def __init__(
        self, variant: str, compile_key: str | None = None, *, space: spaces.Space = SPACE, make=None, **more
    ):
        loss, clip, fields, name = VARIANTS[variant]
        fields, make = fields | more, OPTIMISERS[name] if make is None else make
        self.own, targets = networks(space, **fields), networks(space, **fields)[::-1]
        self.alone = copy.deepcopy(self.own)
        self.optimisers = [make(list(n.parameters()), 1e-3) for n in self.own]
        self.alone_optimisers = [make(list(n.parameters()), 1e-3) for n in self.alone]
        self.solo = [
            QUpdates(n, copy.deepcopy(t).requires_grad_(False), loss, o, clip, batch_size=BATCH)
            for n, t, o in zip(self.alone, targets, self.alone_optimisers, strict=True)
        ]
        self.stack = Stack(self.own, self.optimisers, lambda weights: make(weights, 1e-3))
        self.joint = StackedQUpdates(
            self.own[0], self.stack, stack_weights(targets), loss, clip, compile_key, batch_size=BATCH
        )

    def distance(self, k: int) -> float:
        """Return the largest difference between the weights that network k has learned both ways."""
        pairs = zip(self.own[k].parameters(), self.alone[k].parameters(), strict=True)
        return max(float((p - q).detach().abs().max()) for p, q in pairs)


def drawn(rng: np.random.Generator, steps: int, *, masks: bool = False) -> Transitions:
    """Return what a replay draws for so many gradient steps."""
    rows = steps * BATCH
    mask = (rng.random((rows, ACTIONS)) < 0.7) | (np.arange(ACTIONS) == 0)
    return Transitions(
        obs=rng.normal(size=(rows, 4)).astype(np.float32),
        action=rng.integers(ACTIONS, size=rows),
        reward=(3 * rng.normal(size=rows)).astype(np.float32),
        discount=rng.choice([0.99, 0.9801], rows).astype(np.float32),
        terminated=rng.random(rows) < 0.2,
        next_obs=rng.normal(size=(rows, 4)).astype(np.float32),
        next_mask=mask if masks else None,
        weight=rng.random(rows).astype(np.float32) if masks else None,
        index=np.arange(rows),
        age=0.0,
    )


def uncompiled(key, function, *trees, should_stop=None):
    """Take the place of `compiled`: the operations are the same, without a compiler."""
    call = traced_call(("uncompiled", key), function, *trees)

    def run(leaves):
        with torch.no_grad():
            return call(*leaves)

    return run


def learn_both_ways(both: Learners, calls: int, steps: int, *, masks: bool, atol: float) -> None:
    """Let networks learn from the same transitions both ways, and compare what was found."""
    rng = np.random.default_rng(0)
    for call in range(calls):
        each = [drawn(rng, steps, masks=masks) for _ in both.own]
        found, failed = both.joint(each, call * steps)
        assert not failed
        figures = figures_of_each([found])
        for k, (solo, one) in enumerate(zip(both.solo, each, strict=True)):
            outcome = solo.learn(one, call * steps).outcome
            torch.testing.assert_close(found.loss[k], outcome.loss, atol=atol, rtol=1e-4)
            torch.testing.assert_close(found.norm[k], outcome.norm, atol=atol, rtol=1e-4)
            torch.testing.assert_close(found.target[k], outcome.target, atol=atol, rtol=1e-4)
            assert figures[k] == pytest.approx(figures_of([outcome]), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    "space", [spaces.Discrete, lambda n, start: spaces.MultiDiscrete([n], start=[start])]
)
@pytest.mark.parametrize("encoder", ["onehot", "embedding"])
def test_networks_of_spaces_that_start_elsewhere_share_no_program(space, encoder):
    for start in (0, 1):
        [network] = nets = [make_q_network(space(3, start=start), 2, hidden=(4,), encoder=encoder)]
        obs = np.array([start, start + 2])
        obs = obs if isinstance(space(3, start=0), spaces.Discrete) else obs[:, None]
        stack = Stack(nets, [torch.optim.SGD(network.parameters())], torch.optim.SGD)
        [found] = joint_forward(network, stack)(obs[None])
        torch.testing.assert_close(torch.as_tensor(found[0]), network(torch.as_tensor(obs))[0])


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (uint8(4, 84, 84), {"encoder": "cnn"}),
        (uint8(20, 20, 3), {"encoder": "small"}),
        (uint8(3, 20, 20, 1), {"encoder": "small", "channels": "last"}),
        (uint8(20, 20), {"encoder": "impala"}),
        (uint8(10, 10, 4), {"encoder": "minatar", "channels": "last", "layer_norm": True}),
        (spaces.Dict(seen=uint8(20, 20, 3), felt=SPACE, said=spaces.Discrete(3)), {}),
        (spaces.Tuple([SPACE, spaces.MultiBinary(3)]), {}),
        (spaces.MultiDiscrete([3, 4]), {"encoder": "embedding"}),
    ],
    ids=str,
)
def test_networks_with_any_encoder_learn_together_what_they_learn_alone(space, fields):
    both, rows = Learners("vanilla", space=space, **fields), batch_space(space, BATCH)
    rows.seed(0)
    rng = np.random.default_rng(0)
    for call in range(5):
        each = [replace(drawn(rng, 1), obs=rows.sample(), next_obs=rows.sample()) for _ in both.own]
        found, failed = both.joint(each, call)
        assert not failed
        for k, (solo, one) in enumerate(zip(both.solo, each, strict=True)):
            torch.testing.assert_close(
                found.loss[k], solo.learn(one, call).outcome.loss, atol=1e-4, rtol=1e-4
            )
            assert both.distance(k) < 2e-4


def test_networks_of_images_act_together_as_alone():
    both, rng = Learners("vanilla", space=uint8(20, 20, 3), encoder="small"), np.random.default_rng(0)
    obs = rng.integers(256, size=(NETWORKS, 2, 20, 20, 3), dtype=np.uint8)
    [found] = joint_forward(both.own[0], both.stack)(obs)
    for k, network in enumerate(both.alone):
        alone = network(torch.from_numpy(obs[k]))[0]
        torch.testing.assert_close(torch.from_numpy(found[k]), alone.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("variant", "steps"), list(zip(VARIANTS, (1, 3, 2), strict=True)), ids=VARIANTS)
def test_networks_learn_together_what_they_learn_alone(variant, steps):
    both, first = Learners(variant), networks(**VARIANTS[variant][2])
    learn_both_ways(both, 60 // steps, steps, masks=variant != "vanilla", atol=1e-4)
    for k in range(NETWORKS):
        assert both.distance(k) < 1e-5
        moved = zip(both.own[k].parameters(), first[k].parameters(), strict=True)
        assert max(float((p - q).detach().abs().max()) for p, q in moved) > 0.002
        mine, other = optimiser_state(both.optimisers[k]), optimiser_state(both.alone_optimisers[k])
        for number, state in mine.items():
            assert int(state["step"]) == int(other[number]["step"]) == 60
            torch.testing.assert_close(state["exp_avg"], other[number]["exp_avg"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(make, id=name) for name, make in OPTIMISERS.items()),
        *(pytest.param(make, id=f"policy {name}") for name, make in POLICY_OPTIMISERS.items()),
    ],
)
def test_every_optimiser_moves_networks_together_as_alone(make):
    both, first = Learners("vanilla", make=make), networks()
    learn_both_ways(both, 15, 2, masks=False, atol=1e-4)
    for k in range(NETWORKS):
        assert both.distance(k) < 1e-5
        moved = zip(both.own[k].parameters(), first[k].parameters(), strict=True)
        assert max(float((p - q).detach().abs().max()) for p, q in moved) > 2e-4
        mine, other = optimiser_state(both.optimisers[k]), optimiser_state(both.alone_optimisers[k])
        told = {number: state for number, state in mine.items() if state}
        assert told.keys() == other.keys()
        for number, state in told.items():
            assert state.keys() == other[number].keys()
            for name, value in state.items():
                if value is not None:
                    torch.testing.assert_close(value, other[number][name], atol=1e-4, rtol=1e-3)


def test_gradients_may_lie_in_memory_otherwise_than_weights():
    stacks = [Learners("vanilla").stack for _ in range(2)]
    rng = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(weight.shape, generator=rng) for name, weight in stacks[0].weights.items()}
    turned = {
        name: gradient.transpose(0, -1).contiguous().transpose(0, -1) for name, gradient in gradients.items()
    }
    assert any(turned[name].stride() != gradient.stride() for name, gradient in gradients.items())
    for number in range(3):
        stacks[0].apply(gradients, number)
        stacks[1].apply(turned, number)
    for name, weight in stacks[0].weights.items():
        assert torch.equal(weight, stacks[1].weights[name])


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compiled_steps_of_all_equal_eager_ones_of_each():
    both = Learners("vanilla", "stacked test")
    learn_both_ways(both, 60, 1, masks=False, atol=1e-4)
    assert max(map(both.distance, range(NETWORKS))) < 1e-4


def test_what_is_compiled_equals_eager_steps_of_each(monkeypatch):
    monkeypatch.setattr(stacked_q, "compiled", uncompiled)
    both = Learners("double, dueling, rescaled, clipped", "stacked test")
    learn_both_ways(both, 10, 4, masks=True, atol=1e-4)
    assert max(map(both.distance, range(NETWORKS))) < 1e-4
    for optimiser in both.optimisers:
        assert int(optimiser_state(optimiser)["0"]["step"]) == 40


def test_compiled_steps_stop_for_a_network_that_fails_and_not_for_the_others(monkeypatch):
    monkeypatch.setattr(stacked_q, "compiled", uncompiled)
    both, rng = Learners("vanilla", "stacked test"), np.random.default_rng(1)
    each = [drawn(rng, 2) for _ in both.own]
    each[0].reward[3] = np.inf
    _, failed = both.joint(each, 7)
    assert {k: "at gradient step 7" in str(error) for k, error in failed.items()} == {0: True}
    assert both.distance(0) == 0.0  # its weights are where they were
    for k in (1, 2):
        both.solo[k].learn(each[k], 7)
        assert both.distance(k) < 1e-6


def test_a_network_that_fails_is_named_and_the_others_go_on():
    both, rng = Learners("vanilla"), np.random.default_rng(1)
    each = [drawn(rng, 2) for _ in both.own]
    each[1].reward[BATCH + 3] = np.nan
    _, failed = both.joint(each, 40)
    assert list(failed) == [1]
    assert "loss nan" in str(failed[1])
    assert "at gradient step 41" in str(failed[1])
    for k in (0, 2):
        both.solo[k].learn(each[k], 40)
        assert both.distance(k) < 1e-6


def test_weights_and_state_are_rows_of_the_joint_ones_until_a_network_is_released():
    both, rng = Learners("vanilla"), np.random.default_rng(2)
    both.joint([drawn(rng, 1) for _ in both.own], 0)
    name, weight = next(iter(both.own[1].named_parameters()))
    assert weight.data_ptr() == both.stack.weights[name][1].data_ptr()
    state = both.optimisers[1].state[weight]["exp_avg"]
    both.stack.release(1)
    kept, kept_state = weight.clone(), both.optimisers[1].state[weight]["exp_avg"].clone()
    both.joint([drawn(rng, 1) for _ in both.own], 1)
    assert torch.equal(weight, kept)
    assert torch.equal(both.optimisers[1].state[weight]["exp_avg"], kept_state)
    assert not torch.equal(state, kept_state)  # the row that it had goes on
    other = next(both.own[2].parameters())
    assert other.data_ptr() == both.stack.weights[name][2].data_ptr()


@pytest.mark.parametrize(
    "clip", [Clip(), Clip(0.1), Clip(None, 0.5), Clip(0.3, 0.5), Clip(None, 3.0, True), Clip(normalise=True)]
)
def test_gradients_are_clipped_by_the_norm_of_each_network(clip):
    rng = np.random.default_rng(3)
    sizes = np.array([0.01, 1.0, 0.0], np.float32)
    joint = {
        name: torch.from_numpy(
            (rng.normal(size=(3, *shape)) * sizes.reshape(3, *[1] * len(shape))).astype(np.float32)
        )
        for name, shape in (("weight", (4, 2)), ("bias", (4,)))
    }
    each = []
    for k in range(3):
        parameters = [nn.Parameter(torch.zeros(g.shape[1:])) for g in joint.values()]
        for parameter, gradient in zip(parameters, joint.values(), strict=True):
            parameter.grad = gradient[k].clone()
        each.append((clip_gradients(parameters, clip), [p.grad for p in parameters]))
    norms = clip_stacked(joint, clip)
    for k, (norm, gradients) in enumerate(each):
        torch.testing.assert_close(norms[k], norm)
        for own, gradient in zip(gradients, joint.values(), strict=True):
            torch.testing.assert_close(gradient[k], own)


def test_a_program_without_fusion_computes_the_same_and_leaves_the_fuser_as_it_was():
    seen = []

    def program(x):
        seen.append(torch._C._jit_texpr_fuser_enabled())
        return [x * 2]

    before = torch._C._jit_texpr_fuser_enabled()
    assert torch.equal(stacked._unfused(program)(torch.ones(2))[0], torch.full((2,), 2.0))
    assert seen == [False]
    assert torch._C._jit_texpr_fuser_enabled() == before

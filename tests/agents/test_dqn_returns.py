"""DQN beyond the mean: how its parts go together, what they learn, and exact resume."""

from __future__ import annotations

import dataclasses
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch

import rl_lab
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.trees import leaves_of
from rl_lab.updates import compiling, q_updates
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.draws import HeadMasks, LossWithDraws
from runs import SMALL_DQN, differences, learn
from toys import (
    ConstantReward,
    Counting,
    Identity,
    Parts,
    agent_on,
    interact,
    problem_on,
    sample,
    vector,
)
from uncompiled import uncompiled

BRIEF = {
    "learning_starts_env_steps": 20, "batch_size": 8, "hidden": (8, 8), "target_period_env_steps": 20,
}  # fmt: skip
FEW = {
    "quantile": {"quantiles": 5},
    "implicit": {"fractions": 4, "target_fractions": 3, "acting_fractions": 6, "cosines": 8},
}
RAINBOW = {
    "distribution": "categorical", "double": True, "dueling": True, "prioritised": True, "n_steps": 3, "noisy": True,
    "epsilon_initial": 0.0, "epsilon_final": 0.0,
}  # fmt: skip
KINDS = {
    "rainbow": RAINBOW,
    "implicit, munchausen, noisy": {"distribution": "implicit", "munchausen": True, "noisy": True},
    "quantile, double, heads": {"distribution": "quantile", "double": True, "heads": 3, "head_share": 0.5},
    "means, heads, prioritised": {"heads": 3, "head_share": 0.5, "prioritised": True, "n_steps": 2},
    "means, munchausen": {
        "munchausen": True,
        "dueling": True,
        "gradient_steps_per_update": 2,
        "adam_epsilon": 0.05,
    },
    "categorical, munchausen": {"distribution": "categorical", "munchausen": True},
}
WITH_MEMORY = {"memory": "lstm", "memory_size": 6, "sequence_length": 5, "burn_in_steps": 2}
CART_POLE = partial(gymnasium.make, "CartPole-v1")


def brief(**fields):
    return BRIEF | FEW.get(fields.get("distribution"), {}) | fields


def started(make=CART_POLE, total_steps=60, num_envs=2, seed=0, **fields):
    problem = problem_on(make, num_envs=num_envs, total_steps=total_steps, seed=seed)
    return interact(agent_on(problem, **brief(**fields)), problem)


def weights_of(agent):
    return torch.cat([p.detach().flatten() for p in agent.trained.network.parameters()])


# Composition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [{}, WITH_MEMORY], ids=["", "memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_from_every_part_of_observations_with_and_without_memory(kind, memory):
    agent = started(Parts, 80, **KINDS[kind] | memory)
    assert agent.gradient_steps > 0
    obs, _ = vector(Parts, 2).reset(seed=[1, 2])
    for explore in (False, True):
        policy = agent.policy(explore=explore)
        first = np.ones(2, np.bool_)
        decision = policy.act(obs, policy.initial_state(2), first)
        shown = policy.inspect(obs, decision.state, np.zeros(2, np.bool_))
        assert shown["q_values"].shape == (2, 3)
        assert np.isfinite(shown["q_values"]).all()
        if KINDS[kind].get("distribution"):
            mean = (shown["atoms"] * shown["atom_probabilities"]).sum(-1)
            np.testing.assert_allclose(mean, shown["q_values"], rtol=1e-4, atol=1e-4)


class Blocked(Counting):
    """Lets only action 1 be taken, always for the reward 1; anything else is an error."""

    def reset(self, *, seed=None, options=None):
        obs, _ = super().reset(seed=seed)
        return obs, {"action_mask": np.array([0, 1, 0], np.int8)}

    def step(self, action):
        assert action == 1
        return *super().step(action)[:-1], {"action_mask": np.array([0, 1, 0], np.int8)}


def value_illegal_actions_alone(network, distribution):
    """Let the illegal actions be worth 1000 or the largest atom, and the legal one 0 or the smallest."""
    with torch.no_grad():
        for body in [m for m in network.head.modules() if hasattr(m, "_shape")]:
            for p in body.layers[-1].parameters():
                p.zero_()
            if body._shape[0] == 1:  # the state's value
                continue
            bias = body.layers[-1].bias.view(-1, *body._shape)  # [heads, 3, K]
            if distribution == "categorical":
                bias[:, ::2, -1] = bias[:, 1, 0] = 100.0
            else:
                bias[:, ::2] = 1000.0


WITH_MASKS = {kind: fields for kind, fields in KINDS.items() if "munchausen" not in fields} | {
    "categorical": {"distribution": "categorical"},
    "implicit, double": {"distribution": "implicit", "double": True},
}


@pytest.mark.parametrize("kind", WITH_MASKS)
def test_illegal_actions_are_neither_taken_nor_hoped_for(kind):
    """Both networks value illegal actions alone, so that a target which sees them is no sum of rewards any more."""
    fields = WITH_MASKS[kind]
    problem = problem_on(Blocked, num_envs=2, total_steps=60)
    agent = interact(agent_on(problem, v_max=20.0, v_min=0.0, **brief(**fields)), problem)
    for network in (agent.trained.network, agent.target.network):
        value_illegal_actions_alone(network, fields.get("distribution"))
    outcome = agent.learn(sample(agent))
    assert 0.99 < outcome.target.min() <= outcome.target.max() < fields.get("n_steps", 1) + 0.01
    shown = agent.policy(explore=False).inspect(
        np.zeros((2, 1), np.float32), (), np.ones(2, np.bool_), np.array([[False, True, False]] * 2)
    )
    assert (shown["q_values"][:, ::2] == -np.inf).all()


@pytest.mark.parametrize(
    "fields",
    [
        {"distribution": "categorical", "v_min": 0.0, "v_max": 4.0, "atoms": 21},
        {"distribution": "quantile", "dueling": True},
        {"distribution": "implicit", "double": True},
        {"heads": 2, "head_share": 0.7, "prior_scale": 1.0},
        {"noisy": True, "epsilon_initial": 0.0, "epsilon_final": 0.0},
    ],
    ids=lambda fields: next(iter(fields)) + str(next(iter(fields.values()))),
)
def test_a_constant_reward_under_a_time_limit_is_worth_that_of_eternity(fields):
    """The limit truncates, so that Q is 1 / (1 - gamma) = 2, not the 1.67 that ends after every fifth step give."""
    agent = started(ConstantReward, 600, gamma=0.5, learning_rate=1e-2, **{"hidden": (16,)} | fields)
    q = agent.policy(explore=False).inspect(np.zeros((1, 1), np.float32), (), np.ones(1, np.bool_))
    np.testing.assert_allclose(q["q_values"], 2.0, atol=0.1)


def test_munchausen_values_a_constant_reward_with_the_entropy_of_its_policy():
    """Two equal actions: V = r + alpha t log(1/2) + gamma (V + t log 2), of which the bound cuts nothing off."""
    agent = started(
        ConstantReward, 600, gamma=0.5, learning_rate=1e-2, hidden=(16,), munchausen=True,
        munchausen_temperature=1.0, munchausen_alpha=0.9,
    )  # fmt: skip
    q = agent.policy(explore=False).inspect(np.zeros((1, 1), np.float32), (), np.ones(1, np.bool_))
    expected = (1 - 0.9 * np.log(2) + 0.5 * np.log(2)) / 0.5
    np.testing.assert_allclose(q["q_values"], expected, atol=0.1)


@pytest.mark.long
def test_the_identity_is_learned():
    for fields in (
        RAINBOW | {"v_min": 0.0, "v_max": 3.0},
        {"distribution": "quantile", "munchausen": True},
        {"distribution": "implicit", "double": True},
        {"heads": 4, "head_share": 0.5, "epsilon_initial": 0.0, "epsilon_final": 0.0},
    ):
        usual = {"hidden": (32,), "batch_size": 64, "learning_rate": 3e-3}
        agent = started(lambda: Identity(6), 1_500, gamma=0.5, **usual | fields)
        found = evaluate(agent.policy(explore=False), vector(lambda: Identity(6), 4), episodes=5, seed=1)
        assert found.returns.sum() >= 95, fields  # of 100 steps


# Exploration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_greedy_policy_draws_nothing_and_to_look_at_one_neither(kind):
    agent = started(total_steps=40, **KINDS[kind])
    obs, first = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32), np.ones(2, np.bool_)
    exploring, greedy = agent.policy(explore=True), agent.policy(explore=False)
    state = exploring.act(obs, exploring.initial_state(2), first).state
    before = agent_streams(agent)
    shown = [
        policy.inspect(obs, s, first)["q_values"] for policy, s in ((greedy, ()), (exploring, state)) * 2
    ]
    for values in shown[1:]:
        np.testing.assert_array_equal(values, shown[0])
    actions = {tuple(greedy.act(obs, (), first).action) for _ in range(5)}
    assert actions == {tuple(shown[0].argmax(-1))}
    assert agent_streams(agent) == before


def agent_streams(agent):
    streams = agent.returns._streams.state_dict()
    return repr(streams["numpy"]), streams["torch"].tobytes()


def test_noise_alone_explores():
    """Without epsilon the actions at one observation differ, until the noise is gone."""
    agent = agent_on(problem_on(lambda: Identity(6)), **RAINBOW | {"hidden": (16, 16)})
    agent.env_steps = 10_000  # beyond the random actions before learning starts
    policy, first = agent.policy(explore=True), np.zeros(64, np.bool_)
    assert len(set(policy.act(np.zeros(64, np.int64), (), first).action.tolist())) > 1
    with torch.no_grad():
        for name, p in agent.trained.network.named_parameters():
            if "sigma" in name:
                p.zero_()
    assert len(set(policy.act(np.zeros(64, np.int64), (), first).action.tolist())) == 1


class TestHeadMasks:
    MASKS = HeadMasks(seed=3, heads=4, share=0.3, places=20, num_envs=2)

    def drawn(self, *index):
        return type("Drawn", (), {"index": np.array(index)})

    def test_a_place_keeps_its_heads_and_a_share_of_all_is_drawn(self):
        found = self.MASKS.of(self.drawn(5, 7, 5, 19), (2, 2))
        assert found.shape == (2, 2, 4)
        np.testing.assert_array_equal(found[0, 0], found[1, 0])
        many = dataclasses.replace(self.MASKS, places=5_000).of(self.drawn(*range(5_000)), (1, 5_000))
        np.testing.assert_allclose(many.mean((0, 1)), 0.3, atol=0.02)
        assert np.corrcoef(many[0].T)[0, 1] == pytest.approx(0, abs=0.05)

    def test_the_steps_of_a_window_have_those_of_their_own_places(self):
        """Two environments lie side by side: the steps after place 17 are at 19 and, around the end, at 1."""
        found = self.MASKS.of(self.drawn(17, 4), (1, 3, 2))
        alone = self.MASKS.of(self.drawn(17, 4, 19, 6, 1, 8), (3, 2))
        np.testing.assert_array_equal(found[0], alone)

    def test_another_seed_has_other_heads(self):
        assert (self.MASKS.of(self.drawn(*range(20)), (1, 20)) != dataclasses.replace(self.MASKS, seed=4).of(
            self.drawn(*range(20)), (1, 20)
        )).any()  # fmt: skip

    def test_are_used_where_heads_learn_from_a_share(self):
        assert started(heads=2, head_share=0.5).updates.loss.learns.places == 100_000
        assert started(heads=2).updates.loss.learns is None


# Gradient steps ---------------------------------------------------------------------------------------------


def traced(key, function, *trees, should_stop):
    """The graph that would be compiled, as a function of the leaves."""
    leaves = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype) for x in leaves_of(trees)]
    graph = compiling._trace(function, trees, leaves)

    def run(leaves):
        with torch.no_grad():
            return list(graph(*leaves))

    return run


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize(
    ("kind", "how"),
    [*((kind, uncompiled) for kind in KINDS), pytest.param("rainbow", traced, marks=pytest.mark.long)],
)
def test_what_is_compiled_gives_the_eager_numbers(kind, how, monkeypatch):
    fields = KINDS[kind] | {"gradient_steps_per_update": 2, "total_steps": 44}
    eager = started(compile="no", **fields)
    monkeypatch.setattr(q_updates, "compiled", how)
    compiled = started(compile="yes", **fields)
    assert compiled.updates._compile_key is not None
    assert compiled.gradient_steps == eager.gradient_steps > 0
    torch.testing.assert_close(weights_of(eager), weights_of(compiled), atol=2e-5, rtol=1e-4)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_what_is_compiled_for_one_seed_serves_all(monkeypatch):
    """With another share of heads too, as it only says what batches hold; with other quantiles not."""

    def key_of(seed, **fields):
        keys = []

        def kept(key, *rest, **more):
            keys.append(key)
            return uncompiled(key, *rest, **more)

        monkeypatch.setattr(q_updates, "compiled", kept)
        started(total_steps=24, compile="yes", seed=seed, **KINDS["quantile, double, heads"] | fields)
        (key,) = keys
        return key

    assert key_of(0) == key_of(1) == key_of(0, head_share=0.7) != key_of(0, quantiles=6)


@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize(
    "fields",
    [
        {"distribution": "categorical"},
        {"distribution": "quantile"},
        {"distribution": "implicit"},
        {"munchausen": True},
    ],
    ids=["c51", "qr-dqn", "iqn", "munchausen"],
)
def test_the_traced_step_of_each_part_gives_the_eager_numbers(fields, monkeypatch):
    fields = {"total_steps": 28, "hidden": (4,), "cosines": 2} | fields
    eager = started(compile="no", **fields)
    monkeypatch.setattr(q_updates, "compiled", traced)
    compiled = started(compile="yes", **fields)
    assert compiled.gradient_steps == eager.gradient_steps > 0
    torch.testing.assert_close(weights_of(eager), weights_of(compiled), atol=2e-5, rtol=1e-4)


def test_vanilla_stays_as_it_is():
    agent = started(total_steps=30)
    assert not isinstance(agent.updates.loss, LossWithDraws)
    assert agent.updates.online is agent.trained.network
    assert agent.returns.draw is None
    assert type(agent.trained.network.head).__name__ == "QHead"


# Resume -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "rainbow",
        "implicit, munchausen, noisy",
        "quantile, double, heads",
        "means, heads, prioritised",
        "memory",
    ],
)
def test_a_stopped_run_resumes_to_the_bit(kind, tmp_path):
    own = KINDS.get(kind, WITH_MEMORY | {"heads": 3, "head_share": 0.5, "distribution": "categorical"})
    prior = {"prior_scale": 1.0} if kind == "means, heads, prioritised" else {}
    fields = brief(**SMALL_DQN | {"total_steps": 160, "num_envs": 2, "device": "cpu", **own, **prior})
    whole = learn(tmp_path / "whole", "dqn", "CartPole-v1", **fields).run_dir
    stopped = learn(tmp_path / "stopped", "dqn", "CartPole-v1", stop_at=94, **fields).run_dir
    assert not (stopped / "summary.json").exists()
    rl_lab.resume(stopped)
    assert differences(fingerprint(whole), fingerprint(stopped)) == set()


@pytest.mark.parametrize("optimiser", ["adam", "radam", "rmsprop"])
def test_priors_are_left_alone_by_every_optimiser(optimiser):
    agent = started(heads=2, prior_scale=1.0, optimiser=optimiser)
    assert agent.gradient_steps > 0
    fixed = [p for p in agent.trained.network.parameters() if not p.requires_grad]
    held = {id(p) for group in agent.trained.optimiser.param_groups for p in group["params"]}
    assert fixed
    assert held.isdisjoint(map(id, fixed))

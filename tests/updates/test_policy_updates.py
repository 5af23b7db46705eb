"""Gradient steps on an actor-critic network, eager and compiled."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from rl_lab.updates import policy_updates
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.policy_updates import StepResult
from toys import Masked, Repeat, interact, problem_on
from toys import policy_agent_on as agent_on
from uncompiled import uncompiled

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")


def rollout_of(agent, problem):
    """The first rollout, not learned from yet."""
    agent.update = lambda: None
    interact(agent, dataclasses.replace(problem, total_steps=agent.rollout.rows * agent.num_envs))
    return agent.rollout_batch()


COMPILING = [pytest.param("no", id="eager"), pytest.param("yes", id="compiled", marks=needs_compiler)]


def parameters_of(agent):
    return torch.cat([p.detach().flatten() for p in agent.trained.network.parameters()])


class TestUpdates:
    def fresh(self, make=Masked, **fields):
        problem = problem_on(make, num_envs=2, total_steps=1_000)
        shared = {"n_steps": 16, "batch_size": 16, "n_epochs": 3, "hidden": (8,), "learning_rate": 1e-2}
        agent = agent_on(problem, **(shared | fields))
        return agent, rollout_of(agent, problem)

    @pytest.mark.long
    @needs_compiler
    @pytest.mark.parametrize("make", [Masked, Repeat])
    def test_compiled_steps_equal_eager_ones(self, make):
        (eager, whole), (compiled, other) = (self.fresh(make, compile=c) for c in ("no", "yes"))
        start = [p.detach().clone() for p in eager.trained.network.parameters()]
        for _ in range(5):
            ours, theirs = eager.learn(whole), compiled.learn(other)
            assert ours == pytest.approx(theirs, abs=1e-4, rel=1e-3)
        for p, q in zip(
            eager.trained.network.parameters(), compiled.trained.network.parameters(), strict=True
        ):
            torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-4)
        assert (
            max((p - q).abs().max() for p, q in zip(eager.trained.network.parameters(), start, strict=True))
            > 0.05
        )

    @pytest.mark.parametrize("fields", [{}, {"adam_epsilon": 0.1}], ids=["default", "given"])
    def test_what_is_compiled_takes_adams_epsilon(self, fields, monkeypatch):
        monkeypatch.setattr(policy_updates, "compiled", uncompiled)
        (eager, whole), (other, same) = (self.fresh(compile="no", **fields) for _ in range(2))
        own = other.updates
        other.updates = policy_updates.PolicyUpdates(
            own.network, own.objective, own.optimiser, other.trained.clip, "uncompiled"
        )
        start = parameters_of(eager)
        for _ in range(3):
            eager.learn(whole), other.learn(same)
        torch.testing.assert_close(parameters_of(eager), parameters_of(other), atol=1e-6, rtol=1e-5)
        assert (parameters_of(eager) - start).abs().max() > 0.05
        assert own.optimiser.param_groups[0]["eps"] == fields.get("adam_epsilon", 1e-5)

    def test_moments_are_settled_by_the_number_of_the_step(self, monkeypatch):
        numbers = []
        monkeypatch.setattr(
            policy_updates, "flush_subnormals", lambda optimiser, number: numbers.append(number)
        )
        agent, whole = self.fresh(n_epochs=2)
        agent.learn(whole), agent.learn(whole)
        assert numbers == [*range(8)]

    @pytest.mark.parametrize("compile_", COMPILING)
    def test_a_step_that_is_not_finite_is_named_and_moves_nothing(self, compile_):
        agent, whole = self.fresh(compile=compile_)
        agent.learn(whole)
        before = {k: v.clone() for k, v in agent.trained.network.state_dict().items()}
        whole.advantage[3] = float("nan")
        agent.env_steps = 77
        with pytest.raises(FloatingPointError, match=r"at gradient step [67], env step 77$"):
            agent.learn(whole)
        moved = any(not torch.equal(v, before[k]) for k, v in agent.trained.network.state_dict().items())
        assert moved == (agent.gradient_steps == 7)  # the first minibatch may have been a sound one
        assert all(p.isfinite().all() for p in agent.trained.network.parameters())

    @pytest.mark.parametrize("compile_", COMPILING)
    def test_a_policy_that_has_gone_too_far_is_left_before_it_moves_on(self, compile_):
        agent, whole = self.fresh(compile=compile_, target_kl=1e-5)
        first = agent.learn(whole)
        assert agent.gradient_steps == 1  # at a divergence of 0; the next minibatch is beyond it
        after = {k: v.clone() for k, v in agent.trained.network.state_dict().items()}
        agent.learn(whole)
        assert agent.gradient_steps == 1
        assert all(torch.equal(v, after[k]) for k, v in agent.trained.network.state_dict().items())
        assert first["approx_kl"] > 0

    def test_schedules_fall_to_zero_over_the_budget(self):
        problem = problem_on(Masked, num_envs=2, total_steps=120)
        agent = agent_on(
            problem, n_steps=16, linear_decay=True, learning_rate=1.0, clip_range=0.4, n_epochs=1
        )
        agent.updates = recorder = Recorder(agent.updates)
        interact(agent, dataclasses.replace(problem, total_steps=128))
        shares = [1 - step / 120 for step in (32, 64, 96)] + [0.0]  # the last rollout goes beyond it
        np.testing.assert_allclose(recorder.seen, [(share, 0.4 * share) for share in shares])


class Recorder:
    """Stands in for gradient steps and writes down with what they were asked for."""

    def __init__(self, updates):
        self.optimiser, self.seen = updates.optimiser, []

    def __call__(self, batch, clip_range, max_kl, number):
        self.seen.append((self.optimiser.param_groups[0]["lr"], clip_range))
        return StepResult([0.0] * 7, True)

"""Bandit learners in the common loop: they find the best arm, are refused elsewhere, and go on where they were left."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from by_hand import agent_for, learned, states_after, step_of
from rl_lab.agents.bandits import (
    build_epsilon_greedy,
    build_gradient,
    build_thompson,
    build_ucb,
    is_bandit,
)
from rl_lab.envs.sutton_barto.bandit import draw_means
from rl_lab.mdp.model import TabularModel
from rl_lab.types import UsageError
from tabular_envs import make, model_of
from toys import Identity, Masked, interact, problem_on

EVERY = [build_epsilon_greedy, build_ucb, build_gradient, build_thompson]
BEST = int(draw_means(10, 0).argmax())


def bandit_problem(**fields):
    return problem_on(lambda: make("Bandit", steps=50), **fields)


@pytest.mark.parametrize("num_envs", [1, 8])
@pytest.mark.parametrize("build", EVERY)
def test_the_best_arm_is_found_and_pulled_ever_more_often(build, num_envs):
    problem, pulls = bandit_problem(total_steps=1_600, num_envs=num_envs), []
    agent, _ = agent_for(build, problem)
    interact(agent, problem, lambda step: pulls.extend(step.action.tolist()))
    right = np.array(pulls) == BEST
    assert set(pulls[:300]) == set(range(10))
    assert right[-300:].mean() > right[:160].mean() + 0.1
    greedy = agent.policy(explore=False).act(np.zeros(2), (), np.ones(2, bool))
    assert greedy.action.tolist() == [BEST, BEST]


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("build", EVERY)
def test_one_that_was_stopped_ends_as_one_that_was_not(build, num_envs, tmp_path):
    problem = bandit_problem(total_steps=60 * num_envs, num_envs=num_envs)
    whole = states_after(build, problem, tmp_path, stop=None)
    assert whole == states_after(build, problem, tmp_path, stop=37 * num_envs)
    assert whole[0] != whole[1]


@pytest.mark.parametrize("build", EVERY)
def test_illegal_arms_are_never_pulled(build):
    problem = problem_on(Masked, num_envs=3, total_steps=300)  # the environment asserts it
    agent = interact(agent_for(build, problem, ignore_observations=True)[0], problem)
    assert agent.gradient_steps == 100


@pytest.mark.parametrize("build", EVERY)
def test_a_reward_that_is_not_finite_raises_and_nothing_is_learned(build):
    agent, _ = agent_for(build, bandit_problem())
    before = {name: leaf.copy() for name, leaf in agent.state_dict()["weights"].items()}
    with pytest.raises(FloatingPointError, match="isn't finite"):
        learned(agent, step_of([0], [0], [float("nan")], [0]))
    for name, leaf in agent.state_dict()["weights"].items():
        np.testing.assert_array_equal(leaf, before[name])


def test_arms_that_start_elsewhere_are_counted_from_0():
    class FromFive(Identity):
        def __init__(self):
            super().__init__(1)
            self.action_space = gymnasium.spaces.Discrete(3, start=5)

    problem = problem_on(FromFive)
    agent, _ = agent_for(build_epsilon_greedy, problem)
    learned(agent, step_of([0], [6], [4.0], [0]))
    assert agent.arms.scores().tolist() == [0.0, 4.0, 0.0]
    assert agent.diagnostics()["best_arm"] == 6
    assert agent.policy(explore=False).act(np.zeros(1), (), np.ones(1, bool)).action.tolist() == [6]


class TestWhatPoliciesShow:
    def shown(self, build, explore: bool, mask=None):
        agent, _ = agent_for(build, bandit_problem())
        learned(agent, step_of([0], [3], [2.0], [1]), step_of([1], [3], [4.0], [2]))
        return agent.policy(explore=explore).inspect(np.zeros(1), (), np.ones(1, bool), mask)

    def test_values_are_means_of_rewards(self):
        assert self.shown(build_ucb, False)["q_values"][0].tolist() == [0.0] * 3 + [3.0] + [0.0] * 6

    def test_preferences_are_logits_and_probabilities_only_where_arms_are_drawn(self):
        greedy, exploring = (self.shown(build_gradient, explore) for explore in (False, True))
        assert set(greedy) == {"logits"}
        assert set(exploring) == {"logits", "probabilities"}
        assert exploring["probabilities"].sum() == pytest.approx(1.0)
        assert greedy["logits"][0].argmax() == 3

    def test_illegal_arms_are_minus_infinity(self):
        mask = np.arange(10)[None] != 3
        assert self.shown(build_gradient, True, mask)["probabilities"][0, 3] == 0.0
        assert self.shown(build_ucb, False, mask)["q_values"][0, 3] == -np.inf


class TestRefusals:
    def test_what_is_not_a_bandit_is_refused_unless_told(self):
        problem = problem_on(lambda: Identity(3))
        reason = build_ucb().refuse(problem)
        assert reason.startswith(
            "bandit-ucb learns one value for each action, and toy isn't known to be a bandit ("
        )
        assert build_ucb(ignore_observations=True).refuse(problem) is None

    def test_a_bandit_is_known_by_its_model(self):
        assert build_gradient().refuse(bandit_problem()) is None
        assert build_gradient().refuse(problem_on(lambda: make("Bandit"))) is None
        assert not is_bandit(model_of("RandomWalk"))  # the reward depends on the state
        ends = [(0, 0, 1.0, 0, 1.0, False), (0, 1, 1.0, 0, 2.0, True)]
        assert not is_bandit(
            TabularModel.from_outcomes(ends, 1, 2, [1.0])
        )  # one of the arms ends the episode

    def test_other_actions_are_refused(self):
        reason = build_ucb(ignore_observations=True).refuse(problem_on(lambda: gymnasium.make("Pendulum-v1")))
        assert reason.startswith("bandit-ucb needs Discrete actions; toy has Box")

    @pytest.mark.parametrize(
        ("build", "fields"),
        [
            (build_epsilon_greedy, {"step_size": 0.0}), (build_epsilon_greedy, {"epsilon_final": 2.0}),
            (build_ucb, {"confidence": -1.0}), (build_ucb, {"initial_value": float("inf")}),
            (build_gradient, {"step_size": 0.0}), (build_gradient, {"baseline": 1}),
            (build_thompson, {"prior_std": 0.0}), (build_thompson, {"rewards": "poisson"}),
            (build_thompson, {"ignore_observations": "yes"}),
        ],
    )  # fmt: skip
    def test_fields_outside_their_range_are_refused_by_name(self, build, fields):
        with pytest.raises(UsageError, match=next(iter(fields))):
            build(**fields)


def test_the_best_single_arm_is_what_can_be_expressed():
    from rl_lab.agents.bandits.agent import OneArm
    from rl_lab.function_class import FitTask

    returns = {(0, 0): 1.0, (1, 0): 5.0, (1, 1): 9.0}  # the second arm is illegal in the second state
    task = FitTask(
        obs=None, mask=np.array([[True, True], [True, False]]), good=np.ones((2, 2), bool), advantages=None, best=9.0,
        evaluate=lambda actions: returns[tuple(actions.tolist())],
    )  # fmt: skip
    assert OneArm(2).fit(task) == (5.0, 2)

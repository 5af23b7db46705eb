"""Simulated learners: each as it would run alone, in the model's own episodes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from garnets import garnet

from rl_lab.evaluation.exact import expected_return, limited_return, optimal_return
from rl_lab.mdp import simulate as module
from rl_lab.mdp.greedy_returns import greedy_actions
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY
from rl_lab.mdp.learning.step_sizes import BY_TIME, ONE_OVER_N
from rl_lab.mdp.learning.traces import TD_LAMBDA
from rl_lab.mdp.learning.windows import EVERY_VISIT
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.simulate import Simulation, simulate
from rl_lab.mdp.simulated_learners import TRACES, WINDOWS, Kind
from rl_lab.mdp.simulated_loop import make_loop
from simulated import PLAIN_Q, happened, in_python, learner  # noqa: F401  a fixture

MODEL = garnet(5, 8, 3, 3, ending=0.1, share=1.0)
MASKED = garnet(6, 8, 4, 2, ending=0.1, share=0.5)


def arrays(simulation):
    state = simulation.state_dict()
    return {name: state[part][name] for part in ("knowledge", "opened", "sums") for name in state[part]}


@pytest.mark.parametrize("threads", [1, 2])
def test_each_of_several_seeds_runs_as_it_would_alone(threads):
    seeds = [3, 11, 4, 7, 5]
    together = Simulation(MODEL, learner(), seeds, time_limit=20, threads=threads)
    together.advance(2_000)
    for k, seed in enumerate(seeds):
        alone = Simulation(MODEL, learner(), [seed], time_limit=20, threads=1)
        alone.advance(2_000)
        for name, array in arrays(alone).items():
            assert np.array_equal(array[0], arrays(together)[name][k]), (seed, name)
    assert len({table.tobytes() for table in together.knowledge.q}) == len(seeds)


def test_machine_code_does_what_python_does(monkeypatch):
    compiled, plain = (Simulation(MASKED, learner(), [3], time_limit=20, threads=1) for _ in range(2))
    compiled.advance(500)
    monkeypatch.setattr(module, "compiled_loop", make_loop)
    with np.errstate(over="ignore"):
        plain.advance(500)
    for name, array in arrays(plain).items():
        assert np.array_equal(array, arrays(compiled)[name]), name


def test_long_simulations_run_in_several_calls_and_learn_the_same(monkeypatch):
    whole, cut = (Simulation(MODEL, learner(), [1, 2, 3], time_limit=20, threads=1) for _ in range(2))
    whole.advance(450)
    monkeypatch.setattr(module, "MOST_STEPS", 200)
    cut.advance(450)
    assert cut.env_steps == 450
    sums = ("errors", "returns")  # whose parts are added in another order
    for name, array in arrays(whole).items():
        assert np.array_equal(array, arrays(cut)[name]) or name in sums, name
        np.testing.assert_allclose(array, arrays(cut)[name], rtol=1e-12)


def test_an_interruption_ends_a_long_simulation(monkeypatch):
    calls = []

    def loop(first, *_):
        calls.append(first)
        if first == 0:
            raise KeyboardInterrupt
        time.sleep(0.05)  # the other threads are told long before they are through

    simulation = Simulation(MODEL, learner(), [1, 2, 3], time_limit=20, threads=3)
    monkeypatch.setattr(module, "compiled_loop", lambda kind: loop)
    with pytest.raises(KeyboardInterrupt):
        simulation.advance(2_000 * module.MOST_STEPS)
    assert len(calls) < 1_500


def test_a_simulation_that_is_left_and_restored_goes_on_as_one_that_never_stopped():
    whole, before, after = (Simulation(MODEL, learner(), [1, 2], time_limit=20) for _ in range(3))
    whole.advance(1_500)
    before.advance(777)
    after.load_state_dict(before.state_dict())
    before.advance(800)  # what was restored is a copy
    after.advance(1_500)
    assert after.env_steps == 1_500
    for name, array in arrays(whole).items():
        np.testing.assert_allclose(
            array, arrays(after)[name], rtol=1e-12, err_msg=name
        )  # sums have other pieces
    assert np.array_equal(whole.knowledge.q, after.knowledge.q)


def test_the_steps_are_those_of_the_model():
    simulation = Simulation(MASKED, learner(), [0], time_limit=6)
    steps = happened(simulation, simulation.advance(3_000, record=True), limit=6)
    first = np.flatnonzero(steps.is_first)
    assert np.diff(np.append(first, 3_000)).max() == 6
    assert steps.truncated.sum() > 50
    assert steps.terminated.sum() > 50
    assert MASKED.available[steps.state, steps.action].all()
    assert (MASKED.initial[steps.state[first]] > 0).all()
    same = ~steps.is_first[1:]
    assert np.array_equal(steps.state[1:][same], steps.next_state[:-1][same])
    known = set(zip(MASKED.row, MASKED.successor, MASKED.reward, MASKED.terminated, strict=True))
    rows = steps.state * MASKED.num_actions + steps.action
    assert set(zip(rows, steps.next_state, steps.reward, steps.terminated, strict=True)) <= known


def test_outcomes_and_beginnings_come_as_often_as_the_model_says():
    simulation = Simulation(MODEL, learner(epsilon=(1.0, 1.0)), [0], time_limit=10)
    steps = happened(simulation, simulation.advance(60_000, record=True), limit=10)
    rows = steps.state * MODEL.num_actions + steps.action
    for row in range(MODEL.available.size):
        where = slice(MODEL.indptr[row], MODEL.indptr[row + 1])
        count = (rows == row).sum()
        for successor in np.unique(MODEL.successor[where]):
            p = MODEL.probability[where][MODEL.successor[where] == successor].sum()
            came = ((rows == row) & (steps.next_state == successor)).sum()
            assert abs(came - count * p) < 5 * np.sqrt(count * p * (1 - p)) + 1
    begun = np.bincount(steps.state[steps.is_first], minlength=MODEL.num_states)
    expected = steps.is_first.sum() * MODEL.initial
    assert (np.abs(begun - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize("limit", [5, 40])
def test_the_mean_return_of_random_episodes_is_the_exact_one(limit):
    uniform = MODEL.available / MODEL.available.sum(axis=1, keepdims=True)
    found = simulate(
        MODEL, learner(epsilon=(1.0, 1.0)), range(200), 2_000, evaluate_every=2_000, time_limit=limit
    )
    mean, error = found.episode_return.mean(), found.episode_return.std() / np.sqrt(200)
    # episodes that the end of the simulation cuts off are left out, which favours short ones by a little
    assert mean == pytest.approx(limited_return(MODEL, uniform, limit), abs=4 * error + 0.01)


def test_greedy_policies_are_evaluated_exactly_and_learn():
    found = simulate(MODEL, learner(over=20_000), range(4), 20_000, evaluate_every=5_000, time_limit=50)
    assert found.env_steps.tolist() == [5_000, 10_000, 15_000, 20_000]
    assert found.optimal_return == pytest.approx(optimal_return(MODEL, 0.9), rel=1e-12)
    for k in range(4):
        policy = np.eye(3)[greedy_actions(found.q[k], MODEL.available)]
        assert found.greedy_return[k, -1] == pytest.approx(expected_return(MODEL, policy, 0.9), rel=1e-9)
    assert (found.regret > -1e-9).all()
    assert (found.regret[:, -1] < 0.02 * abs(found.optimal_return)).all()


@pytest.mark.usefixtures("in_python")
def test_predicted_values_come_near_those_of_acting_at_random():
    kind = Kind(TRACES, TD_LAMBDA, EPSILON_GREEDY, BY_TIME)
    options = {"evaluate_every": 300, "time_limit": 50, "threads": 1}
    found = simulate(MASKED, learner(kind, rate=(0.5, 0.01), over=3_000), range(5), 3_000, **options)
    assert found.q.shape == (5, 8, 1)
    assert found.value_error[:, -1].mean() < 0.5 * found.value_error[:, 0].mean()
    assert found.value_error[:, -1].mean() < 0.3
    uniform = MASKED.available / MASKED.available.sum(axis=1, keepdims=True)
    assert found.greedy_return == pytest.approx(expected_return(MASKED, uniform, 0.9), rel=1e-12)
    assert simulate(MASKED, learner(), [0], 10, **options).value_error is None


def test_the_last_step_is_evaluated_and_a_discount_of_evaluation_may_differ():
    found = simulate(
        MODEL, learner(), [0], 1_000, evaluate_every=700, eval_gamma=0.5, time_limit=50, threads=1
    )
    assert found.env_steps.tolist() == [700, 1_000]
    assert found.optimal_return == pytest.approx(optimal_return(MODEL, 0.5), rel=1e-12)


def test_states_that_look_the_same_share_a_row_of_the_table():
    simulation = Simulation(
        MODEL, learner(), [0], time_limit=20, cells=np.arange(MODEL.num_states) // 2 + 1, num_cells=6
    )
    simulation.advance(2_000)
    visited = simulation.knowledge.visits[0].any(axis=1)
    assert visited.tolist() == [False, True, True, True, True, False]
    policy = simulation.greedy()[0]
    assert np.array_equal(policy[::2], policy[1::2])


def test_states_that_look_the_same_with_other_legal_actions_are_refused():
    with pytest.raises(ValueError, match=r"has other legal actions than a state that looks the same"):
        Simulation(MASKED, learner(), [0], cells=np.zeros(MASKED.num_states, int), num_cells=1)


def test_monte_carlo_without_a_time_limit_is_refused():
    kind = Kind(WINDOWS, EVERY_VISIT, EPSILON_GREEDY, ONE_OVER_N)
    with pytest.raises(ValueError, match="needs a time limit"):
        Simulation(MODEL, learner(kind), [0])


def test_values_that_leave_all_bounds_name_the_seed_and_the_step():
    outcomes = [(0, 0, 1.0, 0, 1e308, False)]
    model = TabularModel.from_outcomes(outcomes, 1, 1, [1.0])
    simulation = Simulation(model, learner(PLAIN_Q, epsilon=(0.0, 0.0), rate=(1.0, 1.0)), [7], threads=1)
    with pytest.raises(FloatingPointError, match=r"not finite with seed 7 at env step 3"):
        simulation.advance(50)


def test_what_was_met_is_added_up_until_it_is_taken():
    simulation = Simulation(MODEL, learner(), [0, 1], time_limit=4)
    steps = happened(simulation, simulation.advance(100, record=True), limit=4)
    sums = simulation.take_sums()
    ends = steps.terminated | steps.truncated
    closed = np.arange(100) <= np.flatnonzero(ends)[-1]
    assert sums.learned.tolist() == [100, 100]
    assert sums.episodes[0] == ends.sum()
    assert sums.returns[0] == pytest.approx(steps.reward[closed].sum())
    assert sums.errors[0] > 0
    assert simulation.take_sums().episodes.tolist() == [0, 0]

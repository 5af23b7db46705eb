"""Value errors, losing actions and their pictures; exact returns of trained policies beside simulated ones."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from rl_lab.environments.make import make_env, make_envs
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.evaluation.exact import action_probabilities, find_shortfall, measure_regret
from rl_lab.mdp.model import TabularModel
from rl_lab.policies import ValuePolicy
from rl_lab.training.setup import configure, problem_of
from runs import learn

# Two states and an end: in state 0 action 0 goes on to state 1 (which pays 1 and ends), action 1 ends at once with 0.5.
CHAIN = TabularModel.from_outcomes(
    [
        (0, 0, 1.0, 1, 0.0, False),
        (0, 1, 1.0, 2, 0.5, True),
        (1, 0, 1.0, 2, 1.0, True),
        (1, 1, 1.0, 2, 0.0, True),
    ]
    + [(2, a, 1.0, 2, 0.0, True) for a in (0, 1)],
    num_states=3,
    num_actions=2,
    initial=np.array([1.0, 0.0, 0.0]),
)


def shortfall_of(q, gamma=0.9):
    policy = ValuePolicy(lambda obs, state, first: (np.array(q)[obs], ()), 2)
    return find_shortfall(policy, CHAIN, gamma, 2, action_probabilities(policy, CHAIN, 2))


def test_value_errors_and_losing_states_equal_hand_computed_ones():
    # Q* = [[0.9, 0.5], [1, 0]] at gamma 0.9
    found = shortfall_of([[0.7, 0.8], [1.0, 0.25], [9.0, 9.0]])
    assert found.live.tolist() == [True, True, False]
    assert found.losing.tolist() == [True, False, False]
    np.testing.assert_allclose(found.value_error, [0.3, 0.25, 0.0], atol=1e-12)
    assert found.figures() == {
        "losing_states": 1,
        "value_error_mean": pytest.approx(0.275),
        "value_error_max": pytest.approx(0.3),
    }


def test_optimum_has_no_error_and_loses_nowhere():
    found = shortfall_of([[0.9, 0.5], [1.0, 0.0], [0.0, 0.0]])
    assert not found.losing.any()
    assert found.value_error.max() < 1e-12


def test_regret_within_the_bound_of_the_optimum_is_zero():
    assert measure_regret(5.0, 5.0 + 4e-7, bound=1e-6) == 0.0
    assert measure_regret(5.0, 4.0, bound=1e-6) == 1.0


def test_summary_rows_and_pictures_hold_them(tmp_path):
    fields = {"total_steps": 3000, "pictures": True, "eval_every_steps": 1000}
    summary = learn(tmp_path, "q-learning", "FrozenLake-v1", **fields).summary
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    evaluated = [row for row in rows if "value_error_max" in row]
    assert len(evaluated) == 3
    assert summary["losing_states"] == evaluated[-1]["losing_states"]
    assert summary["value_error_max"] > 0
    for name in ("values", "value_errors"):
        assert iio.imread(tmp_path / "pictures" / f"{name}.png").std() > 10


@pytest.mark.parametrize("env_id", ["lab/Gambler-v0", "lab/Cliff-v0", "CliffWalking-v1"])
def test_a_solver_draws_maps_and_its_convergence(tmp_path, env_id):
    learn(tmp_path, "value-iteration", env_id, pictures=True, eval_max_steps=50)
    names = sorted(path.stem for path in (tmp_path / "pictures").glob("*.png"))
    assert names == ["regrets", "residuals", "value_errors", "values"]


def test_a_policy_with_a_carry_gets_no_map(tmp_path):
    fields = {"total_steps": 40, "memory": "lstm", "hidden": (4,), "memory_size": 4}
    summary = learn(tmp_path, "dqn", "FrozenLake-v1", pictures=True, **fields).summary
    assert summary["regret"] is None
    assert not list((tmp_path / "pictures").glob("*.png"))


@pytest.mark.parametrize("agent", ["sb3-dqn", "sb3-ppo", "random"])
def test_every_memoryless_agent_has_its_regret(tmp_path, agent):
    fields = {"n_steps": 64} if agent == "sb3-ppo" else {}
    summary = learn(tmp_path, agent, "FrozenLake-v1", total_steps=128, **fields).summary
    assert summary["regret"] >= 0.0
    assert 0.0 <= summary["exact_eval_return"] <= 1.0
    assert (summary["value_error_max"] is None) == (agent != "sb3-dqn")


@pytest.mark.long
@pytest.mark.parametrize(
    ("env_id", "kwargs"), [("FrozenLake-v1", {}), ("lab/GridWorld-v0", {"map": "S..\n...\n..G", "slip": 0.3})]
)
def test_exact_return_of_a_trained_dqn_agrees_with_ten_thousand_episodes(tmp_path, env_id, kwargs):
    fields = {"total_steps": 3000, "env_kwargs": kwargs, "epsilon_final": 0.2}
    result = learn(tmp_path, "dqn", env_id, **fields)
    envs = make_envs(env_id, 64, kwargs)
    played = evaluate(result.policy, envs, episodes=10_000, seed=7)
    envs.close()
    error = played.returns.std() / np.sqrt(len(played.returns))
    assert error > 0
    assert abs(played.returns.mean() - result.summary["exact_eval_return"]) < 4 * error


def test_states_of_grids_know_their_cells():
    for env_id, shape in (("FrozenLake-v1", (4, 4)), ("CliffWalking-v1", (4, 12)), ("lab/Cliff-v0", (4, 12))):
        learner, config = configure("value-iteration", {"env_id": env_id})
        cells = problem_of(config, learner).layout.cells
        assert tuple(cells.max(axis=0) + 1) == shape
    learner, config = configure("value-iteration", {"env_id": "lab/Gambler-v0"})
    assert problem_of(config, learner).layout is None
    assert make_env("lab/GridWorld-v0").unwrapped.cells.shape[1] == 2

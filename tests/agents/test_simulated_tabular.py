"""Simulated agents learn what the agents themselves learn from the same steps and draws, to the bit."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from garnets import garnet
from gymnasium import spaces

from rl_lab.mdp import simulate
from rl_lab.mdp.draws import stream_of
from rl_lab.mdp.simulate import STREAMS, Simulation
from rl_lab.mdp.simulated_loop import make_loop
from rl_lab.mdp.simulated_world import COIN, draw_at, planning_draw
from rl_lab.seeding import Streams
from rl_lab.training.registry import make_learner
from rl_lab.training.simulation import Simulated
from rl_lab.types import EnvSpec, Step
from simulated import happened, in_python  # noqa: F401  a fixture

STEPS, LIMIT, SEED = 400, 7, 5
RULES = {
    "q-learning": [{}, {"step_size": "1/n"}, {"exploration": "ucb"}, {"exploration": "boltzmann"}],
    "double-q-learning": [{}, {"step_size": "n^-w"}],
    "expected-sarsa": [{}, {"exploration": "boltzmann"}, {"exploration": "ucb", "initial_value": 1.0}],
    "sarsa": [{}, {"exploration": "boltzmann"}],
    "n-step-sarsa": [{"n_steps": 3}],
    "tree-backup": [{"n_steps": 3}, {"n_steps": 2, "target": "behaviour"}],
    "monte-carlo": [{}, {"first_visit": True}],
    "q-lambda": [{"traces": kind} for kind in ("accumulating", "replacing", "dutch")],
    "sarsa-lambda": [{"traces": "dutch"}, {"trace_decay": 0.5}],
    "dyna-q": [{"planning_steps": 3}, {"planning_steps": 0, "step_size": "n^-w"}],
    "dyna-q-plus": [{"planning_steps": 3, "model_outcomes": 2, "bonus": 0.1, "exploration": "ucb"}],
    "learned-prioritised-sweeping": [{"planning_steps": 2, "model_outcomes": 3}, {"priority_threshold": 0.3}],
    "td-prediction": [{}, {"trace_decay": 0.8, "traces": "dutch"}],
}
COUNTED_ALIKE = ("q-learning", "expected-sarsa", "dyna-q", "learned-prioritised-sweeping", "td-prediction")
CASES = [(agent, fields) for agent, kinds in RULES.items() for fields in kinds]


def problem_in(model):
    masked = not model.available.all()
    spec = EnvSpec(
        "lab/Test-v0", spaces.Discrete(model.num_states), spaces.Discrete(model.num_actions), 1,
        max_episode_steps=LIMIT, has_mask=masked,
    )  # fmt: skip
    return SimpleNamespace(
        spec=spec, model=model, seed=SEED, horizon=STEPS, total_steps=STEPS, num_envs=1, initial_weights=None,
        env_id="lab/Test-v0",
    )  # fmt: skip


def simulated(agent, fields, model):
    """A simulation of the agent, and the agent itself, untaught."""
    learner = make_learner(agent, simulated=True, learning_rate_final=0.1, **fields)
    assert isinstance(learner, Simulated)
    problem = problem_in(model)
    assert learner.refuse(problem) is None
    return learner.simulation(problem, [SEED], threads=1), learner._interaction.build_agent(
        learner.config, problem, Streams(SEED)
    )


def numbers_drawn(shape, t):
    """Return what a rule draws at step t: the coin of double Q-learning, or the numbers of K imagined steps [K, 3]."""
    if len(shape) == 1:
        return np.array([draw_at(stream_of(SEED, STREAMS[0]), t, COIN)])
    stream = np.concatenate([stream_of(SEED, name) for name in STREAMS])
    places = range(t * shape[0], (t + 1) * shape[0])
    return np.array([[planning_draw(stream, place, n) for n in range(3)] for place in places]).reshape(shape)


def teach(agent, steps, model):
    """Let an agent learn from steps, one after the other, with the draws of the simulation."""
    object.__setattr__(agent.tables, "draws", lambda shape: numbers_drawn(shape, agent.env_steps - 1))
    masked = not model.available.all()
    for t in range(len(steps.state)):
        one = [column[t : t + 1] for column in steps]
        state, action, reward, next_state, terminated, truncated, is_first = one
        masks = (model.available[state], model.available[next_state]) if masked else (None, None)
        agent.observe(
            Step(state, action, reward, terminated, truncated, next_state, is_first, (), (), *masks, {})
        )
        agent.update()


@pytest.mark.usefixtures("in_python")
@pytest.mark.parametrize("share", [1.0, 0.6], ids=["all legal", "masks"])
@pytest.mark.parametrize(("agent", "fields"), CASES, ids=[f"{a} {f}" for a, f in CASES])
def test_the_same_steps_and_draws_give_the_same_table(agent, fields, share):
    model = garnet(8, 6, 3, 2, ending=0.15, share=share)
    simulation, pupil = simulated(agent, fields, model)
    steps = happened(simulation, simulation.advance(STEPS, record=True), limit=LIMIT)
    teach(pupil, steps, model)
    knowledge = simulation.knowledge
    assert np.ptp(knowledge.q) > 0.5
    assert np.array_equal(pupil.q, knowledge.q[0])
    if agent == "double-q-learning":
        for name, half in zip(("first", "second"), knowledge.halves[0], strict=True):
            assert np.array_equal(pupil.rule.state_dict()[name], half)
    else:
        assert np.array_equal(pupil.tables.visits, knowledge.visits[0])
        assert simulation.sums.learned[0] == pupil.gradient_steps or agent not in COUNTED_ALIKE
    if fields.get("exploration") == "ucb":
        assert np.array_equal(pupil.tables.tried, knowledge.tried[0])


@pytest.mark.usefixtures("in_python")
@pytest.mark.parametrize(
    "agent",
    [
        "double-q-learning",
        "sarsa",
        "monte-carlo",
        "q-lambda",
        "dyna-q",
        "learned-prioritised-sweeping",
        "td-prediction",
    ],
)
def test_seeds_run_as_each_alone_and_go_on_after_a_stop(agent):
    model = garnet(8, 6, 3, 2, ending=0.15, share=1.0)
    learner, problem = make_learner(agent, simulated=True), problem_in(model)
    together = learner.simulation(problem, [SEED, 9], threads=1)
    together.advance(150)
    for k, seed in enumerate((SEED, 9)):
        alone = learner.simulation(problem, [seed], threads=1)
        alone.advance(100)
        restored = learner.simulation(problem, [seed], threads=1)
        restored.load_state_dict(alone.state_dict())
        restored.advance(150)
        assert np.array_equal(restored.knowledge.q[0], together.knowledge.q[k])


@pytest.mark.long
@pytest.mark.parametrize(
    ("agent", "fields"),
    [
        ("double-q-learning", {"exploration": "ucb"}),
        ("q-lambda", {"traces": "dutch"}),
        ("dyna-q-plus", {"planning_steps": 3, "model_outcomes": 2}),
        ("learned-prioritised-sweeping", {"planning_steps": 3, "model_outcomes": 3}),
        ("td-prediction", {"trace_decay": 0.8}),
    ],
)
def test_machine_code_of_other_rules_does_what_python_does(monkeypatch, agent, fields):
    model = garnet(8, 6, 3, 2, ending=0.15, share=0.6)
    compiled, plain = (simulated(agent, fields, model)[0] for _ in range(2))
    compiled.advance(STEPS)
    monkeypatch.setattr(simulate, "compiled_loop", make_loop)
    with np.errstate(over="ignore"):
        plain.advance(STEPS)
    for name, array in plain.knowledge._asdict().items():
        assert np.array_equal(array, getattr(compiled.knowledge, name)), name


def test_monte_carlo_without_a_time_limit_is_refused():
    learner, problem = make_learner("monte-carlo", simulated=True), problem_in(garnet(8, 6, 3, 2, share=1.0))
    problem.spec = replace(problem.spec, max_episode_steps=None)
    assert "needs a time limit" in learner.refuse(problem)


def test_hidden_illegal_actions_are_refused():
    learner, problem = make_learner("sarsa", simulated=True), problem_in(garnet(8, 6, 3, 2, share=0.5))
    problem.spec = replace(problem.spec, has_mask=False)
    assert "shows no masks of its illegal actions" in learner.refuse(problem)


def test_a_simulation_is_told_how_observations_stand_in_the_table():
    model = garnet(8, 6, 3, 2, share=1.0)
    problem = problem_in(model)
    problem.spec = replace(problem.spec, observation_space=spaces.Discrete(8, start=1))
    object.__setattr__(model, "observe", lambda states: np.asarray(states) + 2)
    made = make_learner("q-learning", simulated=True).simulation(problem, [0])
    assert isinstance(made, Simulation)
    assert (made.cells.tolist(), made.num_cells) == ([1, 2, 3, 4, 5, 6], 8)


def test_a_simulation_is_told_into_which_bins_observations_fall():
    model = garnet(8, 6, 3, 2, share=1.0)
    problem = problem_in(model)
    problem.spec = replace(problem.spec, observation_space=spaces.Box(0.0, 6.0, (1,)))
    object.__setattr__(model, "observe", lambda states: np.asarray(states, float)[:, None] + 0.5)
    learner = make_learner("q-learning", simulated=True, bins=(2,))
    assert learner.refuse(problem) is None
    made = learner.simulation(problem, [0])
    assert (made.cells.tolist(), made.num_cells) == ([0, 0, 0, 1, 1, 1], 2)

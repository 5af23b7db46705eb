"""What docs/spaces.md says of spaces and agents is so: every cell of its tables is run."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rl_lab.agents.random import RandomPolicy
from rl_lab.agents.sb3 import make_vec_env
from rl_lab.datasets.dataset import Dataset
from rl_lab.datasets.record import record_dataset
from rl_lab.environments.actions import counts_of, first_of, leaf_spaces, mask_size
from rl_lab.problem import Problem
from rl_lab.seeding import Streams
from rl_lab.training.registry import make_learner
from rl_lab.trees import leaves_of
from toys import imitate, interact, vector

HOOK = Path(__file__).resolve().parents[1] / "docs" / "_hooks" / "space_tables.py"
_found = importlib.util.spec_from_file_location("space_tables", HOOK)
tables = importlib.util.module_from_spec(_found)
_found.loader.exec_module(tables)

SHORT = {
    "dqn": {"learning_starts_env_steps": 4, "replay_capacity": 20, "batch_size": 4, "hidden": (8,)},
    "lstd": {"update_period_env_steps": 8, "capacity": 20},
    "ppo": {"n_steps": 8, "hidden": (8,), "n_epochs": 1},
    "sb3-ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "hidden": (8,)},
    "sb3-dqn": {"replay_capacity": 20, "learning_starts_env_steps": 4, "batch_size": 4, "hidden": (8,)},
    "clone": {"replay_capacity": 20, "batch_size": 4, "hidden": (8,), "learning_starts_env_steps": 4},
}
SHORT |= {
    "sb3-qrdqn": SHORT["sb3-dqn"] | {"n_quantiles": 5},
    "sb3-recurrent-ppo": SHORT["sb3-ppo"] | {"memory_size": 4},
}
CELLS = [(a, kind, name) for kind in tables.PLAIN for name in tables.SPACES for a in tables.AGENTS]
ASKED = {cell: tables.refusal(cell[0], cell[1], tables.SPACES[cell[2]]) for cell in CELLS}


class Masked(tables.Showing):
    """The same, where a value of every second entry of the actions is illegal, at the next step of the others."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self._info()

    def step(self, action):
        assert self._mask()[self._chosen(action)].all(), action
        return *super().step(action)[:-1], self._info()

    def _info(self):
        return {"action_mask": self._mask()}

    def _mask(self):
        """Return the legal values of all entries side by side."""
        left = self._left
        illegal = [(left // 2 + k) % n if (left + k) % 2 else n for k, n in enumerate(self._counts)]
        entries = [np.arange(n) != value for n, value in zip(self._counts, illegal, strict=True)]
        return np.concatenate(entries)

    @property
    def _counts(self):
        return [n for leaf in leaf_spaces(self.action_space) for n in counts_of(leaf) or ()]

    def _chosen(self, action):
        """Return the places of the action's values in the mask."""
        pairs = zip(leaf_spaces(self.action_space), leaves_of(action, sort_keys=True), strict=True)
        values = [np.ravel(value - first_of(leaf)) for leaf, value in pairs if counts_of(leaf)]
        return np.concatenate(values).astype(int) + np.cumsum([0, *self._counts[:-1]])


def problem_of(agent: str, kind: str, name: str, make=tables.Showing, **fields) -> Problem:
    of_both = tables.spaces_of(kind, tables.SPACES[name], agent)
    return Problem("ID", {}, 2, 24, 0, "cpu", lambda n: vector(lambda: make(**of_both), n), **fields)


@pytest.mark.parametrize(("agent", "kind", "name"), [cell for cell in CELLS if ASKED[cell] is None])
def test_what_is_said_to_be_taken_trains(agent, kind, name, tmp_path):
    require_trained(agent, kind, name, tables.Showing, tmp_path)


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (agent, name)
        for agent, kind, name in CELLS
        if kind == "action" and ASKED[agent, kind, name] is None and not agent.startswith("sb3")
        if mask_size(tables.SPACES[name])
    ],
)
def test_so_it_does_with_masks_which_it_obeys_in_each_part(agent, name, tmp_path):
    require_trained(agent, "action", name, Masked, tmp_path)


def require_trained(agent: str, kind: str, name: str, make: type[tables.Showing], tmp_path: Path) -> None:
    dataset = None
    if agent == "clone":
        of_both = tables.spaces_of(kind, tables.SPACES[name], agent)
        acting = RandomPolicy(of_both["action"], lambda: np.random.default_rng(0))
        record_dataset(acting, lambda: make(**of_both), tmp_path / "data", episodes=4)
        dataset = Dataset(tmp_path / "data")
    problem = problem_of(agent, kind, name, make, dataset=dataset)
    learner = make_learner(agent, **SHORT.get(agent, {}))
    if agent.startswith("sb3"):
        with closing(make_vec_env(problem, [])) as envs:
            learner.make_model(problem, envs).learn(24)
        return
    learner = learner.resolved(problem)
    built = learner.build_agent(learner.config, problem, Streams(0))
    (interact if dataset is None else imitate)(built, problem)
    assert built.gradient_steps > 0 or agent == "random"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for a, kind, name in CELLS if a == "sb3-dqn" and ASKED[a, kind, name] is None],
)
def test_qrdqn_trains_on_what_sb3_dqn_takes(kind, name):
    problem, learner = problem_of("sb3-qrdqn", kind, name), make_learner("sb3-qrdqn", **SHORT["sb3-qrdqn"])
    assert learner.refuse(problem) is None
    with closing(make_vec_env(problem, [])) as envs:
        learner.make_model(problem, envs).learn(24)


@pytest.mark.parametrize(("agent", "kind", "name"), [cell for cell in CELLS if ASKED[cell] is not None])
def test_a_refusal_is_one_line_that_says_what_helps(agent, kind, name):
    reason = ASKED[agent, kind, name]
    assert "\n" not in reason
    assert "(allowed: " in reason or "(the lab's own " in reason


def test_agents_that_share_a_column_give_the_same_answers():
    for column in tables.AGENTS.values():
        first, *others = column.split(", ")
        for kind in tables.PLAIN:
            for space in tables.SPACES.values():
                told = [tables.refusal(agent, kind, space) is None for agent in (first, *others)]
                assert len(set(told)) == 1, (column, kind, space)


def test_the_page_shows_both_tables():
    page = (HOOK.parents[1] / "spaces.md").read_text(encoding="utf8")
    for kind in tables.PLAIN:
        assert f"<!-- spaces: {kind} -->" in page
        rows = [line for line in tables.spaces_table(kind).splitlines() if line.startswith("|")]
        assert len(rows) == len(tables.SPACES) + 2

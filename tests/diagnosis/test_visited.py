"""What a run met, from its own files: every step counts, open episodes included."""

from __future__ import annotations

import numpy as np
import pytest

import diagnosed  # noqa: F401  registers diagnosed/*
from rl_lab.agents.tabular import Tabular
from rl_lab.cli.record import record
from rl_lab.datasets.dataset import Dataset
from rl_lab.diagnosis.visited import NotKnown, States, count_visits
from rl_lab.mdp.model import TabularModel
from rl_lab.runs.description import read_description
from rl_lab.runs.rows import read_episodes
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from runs import learn


def count(folder, *, knows_model=False):
    description = read_description(folder)
    learner = make_learner(description.agent, **description.fields)
    problem = problem_of(description.config, learner, for_acting=True)
    return count_visits(folder, description.config, problem, problem.model, knows_model)


@pytest.fixture
def steps(monkeypatch):
    """The steps that the agent saw, as (states, actions, next states) of each."""
    seen, observe = [], Tabular.observe
    monkeypatch.setattr(Tabular, "observe", lambda self, step: (seen.append(step), observe(self, step))[1])
    return seen


class TestEpisodes:
    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_every_step_that_the_agent_saw_counts_once(self, tmp_path, steps, num_envs):
        learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=300, num_envs=num_envs)
        taken, shown = np.zeros((16, 4), int), np.zeros(16, int)
        for step in steps:
            np.add.at(taken, (step.obs, step.action), 1)
            np.add.at(shown, step.next_obs, 1)
            np.add.at(shown, step.obs[step.is_first], 1)
        found = count(tmp_path)
        assert np.array_equal(found.taken, taken)
        assert np.array_equal(found.shown, shown)
        assert (found.steps, found.notes) == (300, ())
        assert sum(row["length"] for row in read_episodes(tmp_path)) < 300  # some were open at the end

    def test_actions_that_begin_at_another_number_are_counted_from_0(self, tmp_path, steps):
        learn(tmp_path, "q-learning", "diagnosed/CountedFromFive-v0", total_steps=100)
        taken = np.zeros((2, 2), int)
        for step in steps:
            np.add.at(taken, (step.obs, step.action - 5), 1)
        assert np.array_equal(count(tmp_path).taken, taken)

    def test_a_run_that_goes_another_way_when_played_again_says_so(self, tmp_path):
        learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=200)
        path = tmp_path / "episodes.csv"
        head, first, *rest = path.read_text().splitlines()
        columns = first.split(",")
        columns[4] = "0.5"
        path.write_text("\n".join([head, ",".join(columns), *rest]) + "\n")
        found = count(tmp_path)
        assert found.notes == (f"1 of {1 + len(rest)} episodes went another way when they were played again",)

    def test_actions_that_are_missing_are_found(self, tmp_path):
        learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=50)
        path = tmp_path / "actions" / "actions.bin"
        path.write_bytes(path.read_bytes()[:10])
        with pytest.raises(CheckpointCorrupt, match=r"actions\.bin ends before"):
            count(tmp_path)

    def test_a_warm_start_says_what_is_not_counted(self, tmp_path):
        learn(tmp_path / "a", "q-learning", "FrozenLake-v1", total_steps=50)
        learn(tmp_path / "b", "q-learning", "FrozenLake-v1", total_steps=50, init_from=str(tmp_path / "a"))
        assert count(tmp_path / "b").notes == (f"what {tmp_path / 'a'} met isn't counted",)

    def test_steps_that_were_not_recorded_are_said(self, tmp_path):
        fields = {"total_steps": 64, "n_steps": 64}
        learn(tmp_path, "sb3-ppo", "FrozenLake-v1", **fields)
        closed = int(sum(row["length"] for row in read_episodes(tmp_path)))
        found = count(tmp_path)
        assert found.steps == closed < 64
        assert found.notes == (
            f"the last {64 - closed} steps, of episodes still open at the end, weren't recorded",
        )

    def test_who_learns_from_the_model_has_met_every_state(self, tmp_path):
        learn(tmp_path, "value-iteration", "FrozenLake-v1")
        assert count(tmp_path, knows_model=True).visited.all()


class TestDatasets:
    def test_a_run_has_met_what_its_dataset_shows(self, tmp_path):
        words = [
            "--agent",
            "random",
            "--env-id",
            "FrozenLake-v1",
            "--episodes",
            "5",
            "--out",
            tmp_path / "data",
        ]
        assert record([str(word) for word in words]) == 0
        data = str(tmp_path / "data")
        learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=40, dataset=data)
        found, dataset = count(tmp_path / "run"), Dataset(data)
        lengths = [len(dataset.episode(k)) for k in range(5)]
        assert found.steps == sum(lengths)
        assert found.shown.sum() == sum(lengths) + 5
        (tmp_path / "data" / "main_data.hdf5").unlink()
        with pytest.raises(NotKnown, match="the states of its dataset can't be read"):
            count(tmp_path / "run")


def shown_as(table) -> TabularModel:
    """Two live states and two ends, with these observations."""
    table = np.array(table, np.float32)
    rows = [(0, 0, 1.0, 1, 1.0, False), (1, 0, 0.5, 2, 1.0, True), (1, 0, 0.5, 3, 1.0, True)]
    rows += [(2, 0, 1.0, 2, 0.0, True), (3, 0, 1.0, 3, 0.0, True)]
    return TabularModel.from_outcomes(rows, 4, 1, [1.0, 0, 0, 0], observe=lambda states: table[states])


class TestStates:
    def test_are_found_by_what_they_show(self):
        states = States(shown_as([[0.0], [1.5], [2.0], [3.0]]))
        assert states.of(np.array([[1.5], [-0.0], [3.0]], np.float32)).tolist() == [1, 0, 3]

    def test_ends_may_look_alike(self):
        assert States(shown_as([[0.0], [1.0], [2.0], [2.0]])).of(np.array([[2.0]])).tolist() == [2]

    @pytest.mark.parametrize("table", [[[0.0], [0.0], [2.0], [3.0]], [[0.0], [1.0], [1.0], [3.0]]])
    def test_live_ones_may_not(self, table):
        with pytest.raises(NotKnown, match="show the same observation"):
            States(shown_as(table))

    def test_what_no_state_shows_is_said(self):
        states = States(shown_as([[0.0], [1.0], [2.0], [3.0]]))
        with pytest.raises(NotKnown, match="no state of the model"):
            states.of(np.array([[9.0]]))
        with pytest.raises(NotKnown, match="aren't those of the model"):
            states.of(np.array([1, 2]))

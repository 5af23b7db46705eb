"""From fields to a learner, a config and a problem; what a kind of learner can't do is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import rl_lab
from recorded import on_frozen_lake
from rl_lab.datasets.dataset import Dataset
from rl_lab.environments.vectors import SingleVector
from rl_lab.evaluation import exact
from rl_lab.mdp.solve import solve
from rl_lab.training import setup
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import configs_of, configure, problem_of, require_accepted, resolved
from rl_lab.types import UsageError

LAKE = {"env_id": "FrozenLake-v1", "device": "cpu"}


class TestFields:
    def test_go_to_the_run_or_to_the_agent(self):
        learner, config = configure("q-learning", LAKE | {"seed": 4, "gamma": 0.5})
        assert (learner.config.gamma, config.seed, config.env_id) == (0.5, 4, "FrozenLake-v1")

    def test_give_the_same_configs_without_building_a_learner(self, built):
        fields = LAKE | {"seed": 4, "hidden": [8, 8]}
        agent_config, run_config = configs_of("dqn", fields)
        assert built == []
        learner, config = configure("dqn", fields)
        assert built == ["dqn"]
        assert (agent_config, run_config) == (learner.config, config)
        assert agent_config.hidden == (8, 8)

    @pytest.mark.parametrize("read", [configure, configs_of])
    @pytest.mark.parametrize(
        ("agent", "fields", "says"),
        [
            ("q-learning", {"seed": 1}, "env_id is missing"),
            ("q-learnin", LAKE, "'q-learnin'"),
            ("q-learning", LAKE | {"gama": 0.5}, "gama"),
            ("q-learning", LAKE | {"gamma": 2.0}, "gamma"),
            ("q-learning", LAKE | {"total_steps": 0}, "total_steps"),
        ],
    )
    def test_that_are_wrong_are_named(self, read, agent, fields, says):
        with pytest.raises(UsageError, match=says):
            read(agent, fields)


class TestWhatALearnerCannotDo:
    @pytest.mark.parametrize("agent", ["ppo", "value-iteration", "sb3-dqn"])
    def test_learning_from_a_dataset(self, agent):
        with pytest.raises(UsageError, match=rf"agent '{agent}' can't learn from dataset 'data'"):
            configure(agent, LAKE | {"dataset": "data"})

    def test_stopping_early_without_learning_from_steps(self):
        with pytest.raises(
            UsageError, match=r"'value-iteration' isn't evaluated .* stop_at_return 0.5 can't"
        ):
            configure("value-iteration", LAKE | {"stop_at_return": 0.5})

    @pytest.mark.parametrize(
        ("agent", "fields", "says"),
        [
            ("sb3-dqn", {}, "agent 'sb3-dqn' doesn't step the lab's vectors"),
            ("value-iteration", {}, "agent 'value-iteration' doesn't step"),
            ("q-learning", {"simulated": True}, "agent 'q-learning' doesn't step"),
            ("q-learning", {"dataset": "data"}, "steps nothing where dataset 'data' is learned from"),
        ],
    )
    def test_learning_in_a_vector_of_the_environment_s_own(self, agent, fields, says):
        with pytest.raises(UsageError, match=rf"{says}.* \(allowed: sync, async\)"):
            configure(agent, LAKE | {"vector": "own", "num_envs": 2} | fields)

    def test_is_no_matter_to_one_that_can(self):
        _, config = configure("q-learning", LAKE | {"dataset": "data", "stop_at_return": 0.5})
        assert (config.dataset, config.stop_at_return) == ("data", 0.5)


class TestProblem:
    def test_has_the_fields_of_the_config(self):
        learner, config = configure("q-learning", LAKE | {"seed": 4, "num_envs": 3, "total_steps": 90})
        problem = problem_of(config, learner)
        assert (problem.env_id, problem.num_envs, problem.total_steps, problem.seed, problem.device) == (
            "FrozenLake-v1", 3, 90, 4, "cpu",
        )  # fmt: skip
        assert (problem.dataset, problem.initial_weights) == (None, None)

    def test_makes_environments_with_their_arguments(self):
        learner, config = configure("q-learning", LAKE | {"env_kwargs": {"map_name": "8x8"}})
        envs = problem_of(config, learner).make(2)
        assert (envs.num_envs, envs.single_observation_space.n) == (2, 64)
        envs.close()

    def test_a_single_environment_is_never_in_a_process_of_its_own(self, monkeypatch):
        asked = []
        monkeypatch.setattr(setup, "make_envs", lambda env_id, n, *, vector, **_: asked.append((n, vector)))
        learner, config = configure("q-learning", LAKE | {"num_envs": 2, "vector": "async"})
        problem = problem_of(config, learner)
        problem.make(1), problem.make(2)
        assert asked == [(1, "sync"), (2, "async")]

    def test_opens_the_dataset_unless_it_is_for_acting(self, tmp_path):
        data = on_frozen_lake(tmp_path / "data", episodes=2)
        learner, config = configure("q-learning", LAKE | {"dataset": str(data)})
        found = problem_of(config, learner).dataset
        assert isinstance(found, Dataset)
        assert found.num_episodes == 2
        assert problem_of(config, learner, for_acting=True).dataset is None

    def test_for_acting_takes_the_device_that_is_there(self, monkeypatch):
        monkeypatch.setattr(setup, "resolve_device", lambda asked: asked)
        learner, config = configure("q-learning", LAKE | {"device": "cuda"})
        assert problem_of(config, learner).device == "cuda"
        assert problem_of(config, learner, for_acting=True).device == "auto"


class TestAccepted:
    def test_a_problem_that_fits_is(self, tmp_path):
        data = on_frozen_lake(tmp_path / "data", episodes=2)
        learner, config = configure("q-learning", LAKE | {"dataset": str(data)})
        problem = problem_of(config, learner)
        require_accepted(learner, problem)
        envs = problem.make(1)
        assert isinstance(envs, SingleVector)
        envs.close()

    def test_the_learner_s_reason_is_given(self):
        learner, config = configure("q-learning", {"env_id": "CartPole-v1", "device": "cpu"})
        with pytest.raises(UsageError, match="q-learning needs discrete observations"):
            require_accepted(learner, problem_of(config, learner))

    def test_a_dataset_of_another_environment_is_not(self, tmp_path):
        data = on_frozen_lake(tmp_path / "data", episodes=2)
        learner, config = configure("q-learning", LAKE | {"env_id": "Taxi-v4", "dataset": str(data)})
        with pytest.raises(UsageError, match=r"has the observation_space Discrete\(16\), Taxi-v4 has"):
            require_accepted(learner, problem_of(config, learner))


def test_a_learner_with_nothing_to_resolve_is_left_as_it_is():
    @dataclass(frozen=True)
    class Config:
        """No fields."""

    class Plain:
        config = Config()

    plain = Plain()
    assert resolved("plain", plain, None) is plain
    table = make_learner("q-learning")
    assert resolved("q-learning", table, None) is table


ENDLESS = {"env_id": "lab/SuttonGrid5x5-v0", "wandb": "disabled", "total_steps": 20, "eval_episodes": 1}


def test_an_undiscounted_optimum_that_is_infinite_is_refused_before_there_is_a_run(tmp_path):
    said = (
        r"^eval_gamma 1\.0 gives lab/SuttonGrid5x5-v0 no optimum .* earns without end, .* take gamma below 1$"
    )
    with pytest.raises(UsageError, match=said):
        rl_lab.learn(agent="random", eval_gamma=1.0, run_dir=tmp_path / "run", **ENDLESS)
    with pytest.raises(UsageError, match=said):
        rl_lab.compare(agents=["random"], env_ids=ENDLESS["env_id"], eval_gamma=1.0, out=tmp_path / "study", **{
            name: value for name, value in ENDLESS.items() if name != "env_id"
        })  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_an_optimum_is_looked_at_once(tmp_path, monkeypatch):
    """The agent's own gamma is 1, so that nobody asked for this optimum; each evaluation would look for it again."""
    asked = []
    exact._solve_once.cache_clear()
    monkeypatch.setattr(exact, "solve", lambda *given: asked.append(given) or solve(*given))
    fields = {"eval_every_steps": 5, "video_episodes": 0, "pictures": False, "eval_max_steps": 5}
    result = rl_lab.learn(agent="q-learning", gamma=1.0, run_dir=tmp_path / "run", **fields, **ENDLESS)
    assert result.summary["optimal_return"] is None
    assert len(asked) == 1

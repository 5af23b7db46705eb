"""Every agent on every space: it learns, resumes to the bit, and acts inside the space."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
from mirrors import SPACES, MaskedMirror, Mirror
from rl_lab.agents.policy_gradient import A2CConfig, ReinforceConfig
from rl_lab.agents.random import RandomPolicy
from rl_lab.agents.sb3 import build_dqn, build_ppo, make_vec_env
from rl_lab.datasets.dataset import Dataset
from rl_lab.datasets.record import record_dataset
from rl_lab.environments.actions import flat_actions
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.evaluation.watch import episode_frames
from rl_lab.runs.description import read_description
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_actions, read_episodes
from rl_lab.training.setup import configure, problem_of, require_accepted
from rl_lab.types import Decision, UsageError
from runs import differences, learn
from toys import interact, policy_agent_on, problem_on

IDS = {name: f"mirrors/{'-'.join(name.split())}-v0" for name in SPACES}
for name, env_id in IDS.items():
    gymnasium.register(env_id, entry_point=Mirror, kwargs={"space": name})

FAST = {"learning_rate": 1e-2, "gamma": 0.0, "hidden": (32,)}
PPO = FAST | {"n_steps": 25, "n_epochs": 8, "batch_size": 50}
BEST = {"Box of few integers": 0.8, "Dict": 0.35, "Tuple of a Dict": 0.8}
CONTINUOUS = -0.2  # what a mirror of real numbers has to reach; the action 0 is worth -0.5


def threshold(name: str) -> float:
    return BEST.get(name, CONTINUOUS if name.startswith("Box") else 0.8)


def mean_worth(policy, name: str) -> float:
    problem = problem_on(lambda: Mirror(name))
    envs = problem.make(10)
    return float(evaluate(policy, envs, episodes=20, seed=0).returns.mean()) / 10


class TestLearning:
    @pytest.mark.parametrize("name", [n for n in SPACES if n != "Box of many integers"])
    def test_ppo_learns_to_repeat_what_it_sees(self, name):
        problem = problem_on(lambda: Mirror(name), num_envs=8, total_steps=2_000)
        agent = interact(policy_agent_on(problem, **PPO), problem)
        assert mean_worth(agent.policy(explore=False), name) > threshold(name)

    def test_many_integers_are_moved_towards_what_pays(self):
        problem = problem_on(
            lambda: Mirror(spaces.Box(-300, 300, (1,), np.int64)), num_envs=8, total_steps=200
        )
        agent = interact(policy_agent_on(problem, **PPO | {"n_steps": 5}), problem)
        assert agent.gradient_steps > 0

    @pytest.mark.parametrize("config", [A2CConfig, ReinforceConfig])
    def test_the_other_policy_gradients_learn_parts_too(self, config):
        problem = problem_on(lambda: Mirror("Dict"), num_envs=8, total_steps=4_000)
        agent = interact(policy_agent_on(problem, config, **FAST), problem)
        assert mean_worth(agent.policy(explore=False), "Dict") > 0.25

    @pytest.mark.parametrize("name", ["MultiDiscrete", "MultiDiscrete 2 x 2 from -1", "MultiBinary"])
    def test_masks_are_kept_for_every_entry(self, name):
        problem = problem_on(lambda: MaskedMirror(name), num_envs=2, total_steps=300)
        agent = interact(policy_agent_on(problem, n_steps=64, hidden=(8,)), problem)  # the mirror asserts it
        envs = problem.make(2)
        evaluate(agent.policy(explore=False), envs, episodes=4, seed=0)
        evaluate(RandomPolicy(SPACES[name], lambda: np.random.default_rng(0)), envs, episodes=4, seed=0)

    @pytest.mark.parametrize(
        ("agent", "fields"),
        [
            ("q-learning", {"total_steps": 1_000, "gamma": 0.0}),
            (
                "dqn",
                {
                    "total_steps": 800, "gamma": 0.0, "hidden": (32,), "learning_rate": 5e-3, "replay_capacity": 1_000,
                    "learning_starts_env_steps": 50, "train_period_env_steps": 2,
                },
            ),
            ("sb3-ppo", {"total_steps": 1_500, "n_steps": 128, "gamma": 0.0, "learning_rate": 1e-2, "hidden": (32,)}),
            (
                "sb3-dqn",
                {
                    "total_steps": 1_000, "gamma": 0.0, "learning_rate": 5e-3, "replay_capacity": 1_000,
                    "target_period_env_steps": 50, "hidden": (32,),
                },
            ),
        ],
    )  # fmt: skip
    def test_actions_that_start_elsewhere_are_learned_and_stored_as_they_are(self, agent, fields, tmp_path):
        name = "Discrete from -2" if agent.endswith("dqn") else "Discrete from 1"
        found = learn(tmp_path / "run", agent, IDS[name], device="cpu", **fields)
        assert found.summary["eval_return_mean"] > 9.0
        space = SPACES[name]
        actions = read_actions(tmp_path / "run", 0, space)
        assert set(actions.tolist()) <= set(range(int(space.start), int(space.start) + 3))
        assert actions.min() == space.start  # exploration tries them all
        policy = rl_lab.load_policy(tmp_path / "run")
        assert mean_worth(policy, name) > 0.9

    def test_q_learning_takes_blackjack(self, tmp_path):
        found = learn(
            tmp_path,
            "q-learning",
            "Blackjack-v1",
            total_steps=6_000,
            gamma=1.0,
            eval_episodes=200,
            eval_envs=10,
        )
        assert found.summary["eval_return_mean"] > -0.25  # random play loses 0.4 a hand

    def test_a_table_that_is_too_large_is_refused_in_a_line(self):
        learner, _ = configure("q-learning", {"env_id": "CartPole-v1"})
        problem = problem_on(lambda: _Observing(spaces.MultiDiscrete([1000] * 3)))
        reason = learner.refuse(problem)
        assert reason == (
            "q-learning would need a table of 2000000000 entries for toy (allowed: up to 50000000)"
        )


class _Observing(gymnasium.Env):
    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


@pytest.mark.parametrize(
    ("agent", "name", "num_envs"),
    [
        ("random", "Box of one number", 1),
        ("random", "Tuple of a Dict", 2),
        ("ppo", "Discrete from -2", 1),
        ("ppo", "MultiDiscrete 2 x 2 from -1", 2),
        ("ppo", "Box of few integers", 1),
        ("ppo", "Tuple of a Dict", 2),
    ],
)
def test_a_stopped_run_resumes_to_the_bit(agent, name, num_envs, tmp_path):
    own = {"n_steps": 16, "hidden": (8,)} if agent == "ppo" else {}
    fields = {"total_steps": 90 * num_envs, "num_envs": num_envs, "device": "cpu", **own}
    whole = learn(tmp_path / "whole", agent, IDS[name], **fields).run_dir
    stopped = learn(tmp_path / "stopped", agent, IDS[name], stop_at=43 * num_envs, **fields).run_dir
    assert not (stopped / "summary.json").exists()
    rl_lab.resume(stopped)
    assert differences(fingerprint(whole), fingerprint(stopped)) == set()


@pytest.mark.parametrize("agent", ["dqn", "q-learning", "pqn"])
def test_a_stopped_run_of_values_resumes_to_the_bit(agent, tmp_path):
    replayed = {"learning_starts_env_steps": 20, "replay_capacity": 50, "hidden": (8,), "batch_size": 4}
    own = {"dqn": replayed, "pqn": {"n_steps": 20, "hidden": (8,)}}
    fields = {"total_steps": 120, "device": "cpu", **own.get(agent, {})}
    whole = learn(tmp_path / "whole", agent, IDS["Discrete from -2"], **fields).run_dir
    stopped = learn(tmp_path / "stopped", agent, IDS["Discrete from -2"], stop_at=63, **fields).run_dir
    rl_lab.resume(stopped)
    assert differences(fingerprint(whole), fingerprint(stopped)) == set()


@pytest.mark.parametrize("name", SPACES)
class TestShowingAndRecording:
    def test_a_training_episode_is_watched_again(self, name, tmp_path):
        folder: Path = learn(tmp_path / "run", "random", IDS[name], total_steps=25, eval_episodes=1).run_dir
        config = read_description(folder).config
        actions = read_actions(folder, 1, SPACES[name])
        seed = int(read_episodes(folder)[1]["seed"])
        frames = list(episode_frames(rl_lab.load_policy(folder), config, [seed], [actions]))
        assert len(frames) == len(actions) + 1 == 11

    def test_recorded_actions_are_read_back_and_learned_from(self, name, tmp_path):
        space, made = SPACES[name], []

        def make():
            made.append(Mirror(name))
            return made[-1]

        policy = RandomPolicy(space, lambda: np.random.default_rng(0))
        record_dataset(policy, make, tmp_path / "data", episodes=2, epsilon=0.5)
        dataset = Dataset(tmp_path / "data")
        assert dataset.action_space == space
        episode = dataset.episode(1)
        assert len(episode.actions) == 10
        envs = problem_on(make).make(1)
        envs.reset(seed=[dataset.seed_of(1)])
        rewards = [
            envs.step(a[None])[1][0] for a in episode.actions
        ]  # the same seed and actions: the same rewards
        np.testing.assert_array_equal(rewards, episode.rewards)


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["MultiDiscrete 2 x 2 from -1", "MultiBinary 2 x 2", "Box of few integers", "Dict"]
    )
    def test_sb3_refuses_what_it_cannot_send_before_the_first_step(self, name):
        learner, config = configure("sb3-ppo", {"env_id": IDS[name], "device": "cpu"})
        with pytest.raises(UsageError, match=r"^sb3-ppo takes .*\(the lab's own .*\)$"):
            require_accepted(learner, problem_of(config, learner))

    @pytest.mark.parametrize("build", [build_dqn, build_ppo])
    @pytest.mark.parametrize("in_dict", [False, True])
    @pytest.mark.parametrize(
        ("shape", "taken"),
        [((36, 40, 3), True), ((3, 36, 36), True), ((35, 40, 3), False), ((3, 40, 35), False)],
    )
    def test_sb3_refuses_images_that_are_too_small_for_its_convolutions(self, build, in_dict, shape, taken):
        image = spaces.Box(0, 255, shape, np.uint8)
        problem = problem_on(lambda: Shows(spaces.Dict({"a": image}) if in_dict else image))
        learner = build(replay_capacity=40) if build is build_dqn else build()
        reason = learner.refuse(problem)
        if taken:
            assert reason is None
            learner.make_model(problem, make_vec_env(problem, []))
        else:
            assert reason.startswith("sb3-")
            assert "takes images of at least 36x36; toy has" in reason


class Shows(gymnasium.Env):
    """Shows samples of a space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = space

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(0)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.0, True, False, {}


class Repeating:
    """Repeats what it sees, as a Mirror wants it."""

    def __init__(self, space):
        self._space = space

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        return Decision(flat_actions(self._space, obs))

    def inspect(self, obs, state, is_first, mask=None):
        return {}


@pytest.mark.parametrize(
    "name",
    [
        "Discrete from -2",
        pytest.param("MultiDiscrete 2 x 2 from -1", marks=pytest.mark.long),
        pytest.param("Tuple of a Dict", marks=pytest.mark.long),
    ],
)
def test_clone_learns_actions_in_parts_and_resumes_to_the_bit(name, tmp_path):
    record_dataset(Repeating(SPACES[name]), lambda: Mirror(name), tmp_path / "data", episodes=25)
    fields = {
        "dataset": str(tmp_path / "data"), "total_steps": 900, "hidden": (32,), "learning_rate": 1e-2,
        "replay_capacity": 500, "learning_starts_env_steps": 50, "device": "cpu", "eval_every_steps": 10**6,
        "gradient_steps_per_update": 1,
    }  # fmt: skip
    whole = learn(tmp_path / "whole", "clone", IDS[name], **fields)
    assert whole.summary["eval_return_mean"] > 9.0
    assert whole.summary["held_out_accuracy"] > 0.8
    stopped = learn(tmp_path / "stopped", "clone", IDS[name], stop_at=513, **fields).run_dir
    rl_lab.resume(stopped)
    assert differences(fingerprint(whole.run_dir), fingerprint(stopped)) == set()

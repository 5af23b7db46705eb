"""The ids that the package registers, and that importing it or playing loads no more than is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys

import gymnasium
import pytest
from gymnasium.envs.registration import load_env_creator

import rl_lab.envs
from rl_lab.environments.make import make_env

IDS = sorted(env_id for env_id in gymnasium.registry if env_id.startswith("lab/"))
GRID_WORLDS = ("lab/GridWorld-v0", "lab/GridWorldCoordinates-v0", "lab/GridWorldPixels-v0")


class TestIds:
    def test_are_registered_once(self):
        before = {env_id: gymnasium.spec(env_id) for env_id in GRID_WORLDS}
        importlib.reload(rl_lab.envs)
        assert all(gymnasium.registry[env_id] is spec for env_id, spec in before.items())
        assert all(spec.max_episode_steps == 200 for spec in before.values())

    @pytest.mark.parametrize("env_id", IDS)
    def test_name_a_class_that_can_be_loaded(self, env_id):
        assert issubclass(load_env_creator(gymnasium.spec(env_id).entry_point), gymnasium.Env)

    def test_work_with_the_package_in_front(self):
        env = make_env("rl_lab.envs:lab/GridWorld-v0", {"map": "corridor"})
        assert env.observation_space.n == 8
        assert env.spec.max_episode_steps == 200


def modules_after(code: str) -> set[str]:
    """The modules that a fresh process has loaded after running this code."""
    code += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


class TestWhatIsLoaded:
    def test_importing_the_package_loads_no_environment(self):
        loaded = {name for name in modules_after("import rl_lab.envs") if name.startswith("rl_lab.envs")}
        assert loaded == {"rl_lab.envs", "rl_lab.envs.time_limits"}

    def test_pygame_is_loaded_only_when_something_is_drawn(self):
        play = (
            "import gymnasium, rl_lab.envs\n"
            "for env_id in sorted(i for i in gymnasium.registry if i.startswith('lab/')):\n"
            "    env = gymnasium.make(env_id, render_mode='rgb_array')\n"
            "    env.reset(seed=0)\n"
            "    env.step(0)\n"
        )
        assert "pygame" not in modules_after(play)
        assert "pygame" in modules_after(play + "env.render()")  # of the windy grid, the last one

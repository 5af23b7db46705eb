"""Environments by name: what they are wrapped in, and what is refused in one line."""

from __future__ import annotations

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit

from counting import Counting
from rl_lab.environments import make as module
from rl_lab.environments.make import (
    make_env,
    make_envs,
    require_no_memory_across_episodes,
    resolve_preprocessing,
)
from rl_lab.environments.vectors import LocalVector, SingleVector
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.types import UsageError


@pytest.fixture
def failing(monkeypatch):
    """Registers test/Failing-v0, whose construction raises what the test says."""

    def register(error: BaseException) -> None:
        def fail():
            raise error

        spec = gymnasium.envs.registration.EnvSpec("test/Failing-v0", entry_point=fail)
        monkeypatch.setitem(gymnasium.registry, "test/Failing-v0", spec)

    return register


class TestRefusals:
    @pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
    def test_memory_across_episodes(self, wrapper):
        with pytest.raises(UsageError, match=f"{wrapper.__name__} remembers across episodes"):
            require_no_memory_across_episodes(TimeLimit(wrapper(Counting()), 3))

    @pytest.mark.parametrize("env_id", ["FrozenLak-v1", "nowhere/Lake-v0"])
    def test_an_unknown_id(self, env_id):
        with pytest.raises(UsageError, match=f"^unknown environment '{env_id}' .allowed: a Gymnasium id"):
            make_env(env_id)

    def test_an_unknown_id_names_close_ones(self):
        with pytest.raises(UsageError, match=r"close: .*FrozenLake-v1"):
            make_env("FrozenLak-v1")

    @pytest.mark.parametrize("arguments", [{"is_slippery": 1, "size": 3}, {"size": 3}])
    def test_arguments_that_the_environment_does_not_take(self, arguments):
        with pytest.raises(UsageError, match=r"^environment 'FrozenLake-v1' with \{.*\}: .+$"):
            make_env("FrozenLake-v1", arguments)

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (
                ModuleNotFoundError("No module named 'b2'", name="b2"),
                " needs a package that is missing: No module named 'b2'",
            ),
            (DependencyNotInstalled("pip install b2"), " needs a package that is missing: pip install b2"),
            (ValueError("\nfirst line\nsecond line"), ": first line"),
            (AssertionError(), ": AssertionError"),
            (KeyError("9x9"), ": KeyError: '9x9'"),
        ],
        ids=["module", "dependency", "two lines", "no text", "a key"],
    )
    def test_an_environment_that_cannot_be_made(self, failing, error, says):
        failing(error)
        with pytest.raises(UsageError) as caught:
            make_env("test/Failing-v0")
        assert str(caught.value) == f"environment 'test/Failing-v0'{says}"

    def test_an_environment_that_takes_no_render_mode_is_not_drawn(self, failing):
        said = "Failing.__init__() got an unexpected keyword argument 'render_mode'"
        failing(TypeError(said))
        with pytest.raises(UsageError) as caught:
            make_env("test/Failing-v0", render_mode="rgb_array")
        assert str(caught.value) == (
            f"environment 'test/Failing-v0' can't be drawn: it takes no render_mode 'rgb_array' ({said})"
        )
        failing(TypeError("Failing() takes no arguments"))
        with pytest.raises(UsageError, match=r"can't be drawn.*takes no arguments\)$"):
            make_env("test/Failing-v0", render_mode="rgb_array")
        with pytest.raises(UsageError, match=r"with \{'size': 3.*argument 'size'$"):
            make_env("test/Failing-v0", {"size": 3}, render_mode="rgb_array")

    def test_other_errors_are_bugs_and_pass_through(self, failing):
        failing(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            make_env("test/Failing-v0")

    def test_a_namespace_whose_package_lacks_another(self, monkeypatch):
        class Entry:
            dist = SimpleNamespace(name="far", requires=["b2>=1; extra == 'games'"])

            def load(self):
                raise ImportError("No module named 'b2'", name="b2.core")

        monkeypatch.setattr(module, "entry_points", lambda *, group, name: [Entry()])
        with pytest.raises(
            UsageError,
            match=r"^environment 'far/Lake-v0' needs a package that is missing: .*b2.*: pip install 'far\[games\]'\)",
        ):
            make_env("far/Lake-v0")

    @pytest.mark.parametrize("num_envs", [0, -1])
    def test_fewer_than_one_environment(self, num_envs):
        with pytest.raises(UsageError, match=f"num_envs must be at least 1, got {num_envs}"):
            make_envs("test/Counting-v0", num_envs)

    @pytest.mark.parametrize("num_envs", ["2", 2.5, None, True])
    def test_a_number_of_environments_that_is_none(self, num_envs):
        with pytest.raises(UsageError, match=f"^num_envs must be a whole number, got {num_envs!r}$"):
            make_envs("CartPole-v1", num_envs)

    @pytest.mark.parametrize("env_id", [None, 3, Counting])
    def test_an_id_that_is_no_text(self, env_id):
        for make in (make_env, make_envs):
            with pytest.raises(UsageError, match=r"^environment .* is no text \(allowed: an id, such as"):
                make(env_id)

    @pytest.mark.parametrize(
        "wrappers", ["gymnasium.wrappers:FlattenObservation", None, [NormalizeReward], 3]
    )
    def test_wrappers_that_are_no_list_of_names(self, wrappers):
        for make in (make_env, make_envs):
            with pytest.raises(UsageError, match=r"^wrappers .* is no list of names \(allowed: such as \['"):
                make("CartPole-v1", wrappers=wrappers)

    def test_arguments_without_names(self):
        with pytest.raises(UsageError, match=r"^env_kwargs 'size=3' is no dict \(allowed: values by name\)$"):
            make_env("CartPole-v1", "size=3")

    def test_an_unknown_vector(self):
        with pytest.raises(UsageError, match=r"vector 'threads' is unknown \(allowed: sync, async, own\)"):
            make_envs("test/Counting-v0", 2, vector="threads")


class TestPreprocessing:
    @pytest.mark.parametrize(
        ("env_id", "asked", "found"),
        [
            ("ALE/Pong-v5", "auto", "atari"),
            ("ALE/Pong-v5", "atari", "atari"),
            ("ALE/Pong-v5", "none", "none"),
            ("ale_py:ALE/Pong-v5", "auto", "atari"),
            ("ale_py:ALE/Pong-v5", "atari", "atari"),
            ("CartPole-v1", "auto", "none"),
        ],
    )
    def test_auto_goes_by_the_id(self, env_id, asked, found):
        assert resolve_preprocessing(env_id, asked) == found

    @pytest.mark.parametrize(
        ("asked", "says"),
        [("atari", "needs a game"), ("gray", "'gray' is unknown .allowed: auto, none, atari")],
    )
    def test_what_does_not_fit_is_refused(self, asked, says):
        with pytest.raises(UsageError, match=says):
            make_env("CartPole-v1", preprocess=asked)

    def test_of_a_game_is_a_stack_of_small_grey_pictures(self):
        env = make_env("ALE/Pong-v5")
        space = env.observation_space
        assert (space.shape, space.dtype) == ((4, 84, 84), np.uint8)
        assert env.unwrapped.spec.kwargs["frameskip"] == 1  # the preprocessing skips
        env.close()


def test_lives_are_watched_only_if_asked_to():
    assert isinstance(make_env("test/Counting-v0", life_loss_terminates=True), LifeLoss)
    assert not isinstance(make_env("test/Counting-v0"), LifeLoss)


@pytest.mark.parametrize(("num_envs", "kind"), [(1, SingleVector), (3, LocalVector)])
def test_a_vector_has_as_many_environments_as_asked_for(num_envs, kind):
    envs = make_envs("test/Counting-v0", num_envs, {"ends_at": 3})
    assert (type(envs), envs.num_envs) == (kind, num_envs)
    assert envs.reset(seed=[1] * num_envs)[0].shape == (num_envs, 1)
    envs.close()

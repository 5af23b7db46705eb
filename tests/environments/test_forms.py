"""Which environments are played in a vectorised form, and what is refused."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.seeding import np_random

import rl_lab.envs
from forms import OWN, OwnVector, registered
from rl_lab.environments.cartpole import CartPoleVector
from rl_lab.environments.form_vector import FormVector
from rl_lab.environments.forms import FEWEST, Generators
from rl_lab.environments.make import make_envs
from rl_lab.environments.vectors import LocalVector, SingleVector
from rl_lab.types import UsageError

assert rl_lab.envs  # whose ids are used


class TestChoice:
    def test_many_environments_are_played_in_a_form_that_equals_single_ones(self):
        envs = make_envs("CartPole-v1", FEWEST)
        assert isinstance(envs, FormVector)
        assert isinstance(envs.envs, CartPoleVector)
        assert isinstance(make_envs("lab/Cliff-v0", FEWEST), FormVector)

    @pytest.mark.parametrize(
        "given",
        [
            {"num_envs": FEWEST - 1},
            {"wrappers": ["gymnasium.wrappers:TimeAwareObservation"]},
            {"life_loss_terminates": True},
            {"render_mode": "rgb_array"},
            {"env_kwargs": {"render_mode": "rgb_array"}},
        ],
        ids=lambda given: next(iter(given)),
    )
    def test_few_ones_wrapped_ones_and_drawn_ones_are_played_one_by_one(self, given):
        envs = make_envs("CartPole-v1", **{"num_envs": FEWEST, **given})
        assert isinstance(envs, LocalVector)
        envs.close()

    def test_environments_without_a_form_are_played_one_by_one(self):
        assert isinstance(make_envs("Acrobot-v1", FEWEST), LocalVector)
        assert isinstance(make_envs("lab/Examples-v0", FEWEST), LocalVector)

    def test_a_form_that_promises_nothing_is_taken_only_if_asked_for(self):
        with registered():
            assert isinstance(make_envs(OWN, FEWEST), LocalVector)
            envs = make_envs(OWN, 2, vector="own")
            assert isinstance(envs.envs, OwnVector)
            assert isinstance(make_envs(OWN, 1, vector="own"), SingleVector)

    def test_any_form_may_promise_to_equal_single_environments(self):
        class Promising(OwnVector):
            equals_single_envs = True

        with registered(Promising):
            assert isinstance(make_envs(OWN, FEWEST).envs, Promising)
            assert isinstance(make_envs(OWN, FEWEST - 1), LocalVector)

    def test_a_form_whose_package_is_missing_is_none(self):
        with registered("no_such_module:Form"):
            assert isinstance(make_envs(OWN, FEWEST), LocalVector)
            with pytest.raises(UsageError, match="'test/OwnVector-v0' needs a package that is missing"):
                make_envs(OWN, FEWEST, vector="own")

    @pytest.mark.parametrize(
        ("env_id", "fields"),
        [("Acrobot-v1", {}), ("CartPole-v1", {"wrappers": ["gymnasium.wrappers:TimeAwareObservation"]})],
    )
    def test_without_a_form_own_is_refused(self, env_id, fields):
        with pytest.raises(
            UsageError,
            match=f"vector own needs a vectorised form, and {env_id} has none .*allowed: sync, async",
        ):
            make_envs(env_id, 2, vector="own", **fields)

    def test_a_form_that_resets_by_itself_is_refused_by_name(self):
        class Resetting(OwnVector):
            metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}  # noqa: RUF012

        with (
            registered(Resetting),
            pytest.raises(UsageError, match=r"Resetting has autoreset mode .*NEXT_STEP.*DISABLED"),
        ):
            make_envs(OWN, 2, vector="own")

    def test_wrong_arguments_are_told_in_a_line(self):
        with pytest.raises(UsageError, match="max_episode_steps 0 must be at least 1"):
            make_envs("lab/Cliff-v0", FEWEST, {"max_episode_steps": 0})
        with pytest.raises(UsageError, match="max_episode_steps 0 must be at least 1"):
            make_envs("CartPole-v1", FEWEST, {"max_episode_steps": 0})
        with pytest.raises(UsageError, match="unexpected keyword argument 'pole'"):
            make_envs("CartPole-v1", FEWEST, {"pole": 2})


class TestGenerators:
    def test_are_those_of_the_seeds_and_go_on_without_one(self):
        generators = Generators(3)
        assert generators.open([5, 6, 7], None).tolist() == [0, 1, 2]
        first = [generators[i].random() for i in range(3)]
        assert first == [np_random(seed)[0].random() for seed in (5, 6, 7)]
        mask = np.array([True, False, True])
        assert generators.open([9, None, None], {"reset_mask": mask}).tolist() == [0, 2]
        assert generators[0].random() == np_random(9)[0].random()
        theirs = np_random(7)[0]
        assert generators[2].random() == theirs.random(2)[1]

    def test_one_number_seeds_all_as_gymnasium_does(self):
        generators = Generators(2)
        generators.open(8, None)
        assert generators[1].random() == np_random(9)[0].random()

    def test_seeds_and_masks_of_another_number_are_refused(self):
        with pytest.raises(UsageError, match="2 seeds and a mask of shape"):
            Generators(3).open([1, 2], None)
        with pytest.raises(UsageError, match=r"mask of shape \(2,\) reset no 3 environments"):
            Generators(3).open([1, 2, 3], {"reset_mask": np.ones(2, np.bool_)})
        with pytest.raises(UsageError, match="reset no 3 environments"):
            Generators(3).open([1, 2, 3], {"reset_mask": [1, 0, 2]})


@pytest.mark.parametrize(("num_envs", "vector"), [(1, "sync"), (2, "sync"), (2, "async"), (FEWEST, "sync")])
def test_options_without_a_mask_reset_all(num_envs, vector):
    envs = make_envs("CartPole-v1", num_envs, vector=vector)
    seeds = list(range(num_envs))
    expected, _ = envs.reset(seed=seeds)
    found, _ = envs.reset(seed=seeds, options={})
    np.testing.assert_array_equal(found, expected)
    envs.close()

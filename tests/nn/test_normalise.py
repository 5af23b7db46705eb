"""Normalisers against NumPy over everything seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.nn.normalise import EPSILON, ObservationNormaliser, RewardNormaliser, RunningMoments
from rl_lab.updates.trained import load_weights


def floats(*shape):
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


class TestRunningMoments:
    @settings(deadline=None)
    @given(
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
        shape=st.sampled_from([(), (3,), (2, 3)]),
        offset=st.sampled_from([0.0, 1e4, -3.0]),
        seed=st.integers(0, 100),
    )
    def test_equal_those_of_numpy_over_all_samples(self, sizes, shape, offset, seed):
        rng, moments, seen = np.random.default_rng(seed), RunningMoments(shape), [np.zeros((0, *shape))]
        for size in sizes:
            seen.append(rng.normal(offset, 2.0, (size, *shape)))
            moments.observe(seen[-1])
        everything = np.concatenate(seen)
        assert float(moments.count) == len(everything)
        if len(everything) > 1:
            np.testing.assert_allclose(moments.mean.numpy(), everything.mean(axis=0), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(moments.variance, everything.var(axis=0), rtol=1e-6)
        else:
            assert (moments.variance == 1).all()

    def test_stay_precise_far_from_zero(self):
        """A running sum of squares would find a variance of 0 or less here."""
        moments, samples = RunningMoments(), 1e9 + np.tile([-1.0, 1.0], 5_000)
        for row in samples.reshape(-1, 4):
            moments.observe(row)
        assert moments.variance == pytest.approx(1.0, rel=1e-6)

    def test_batches_are_as_good_as_single_samples(self):
        samples = np.random.default_rng(0).normal(size=(40, 3))
        one, many = RunningMoments((3,)), RunningMoments((3,))
        many.observe(samples)
        for row in samples:
            one.observe(row[None])
        np.testing.assert_allclose(one.variance, many.variance, rtol=1e-12)

    def test_are_written_in_place_and_stay_float64_on_the_cpu(self):
        moments = RunningMoments((2,))
        pointers = [buffer.data_ptr() for buffer in moments.buffers()]
        moments.to(torch.float16).to("meta")
        moments.observe(np.ones((3, 2)))
        assert [buffer.data_ptr() for buffer in moments.buffers()] == pointers
        assert all(buffer.dtype == torch.float64 for buffer in moments.buffers())


class TestObservations:
    def test_are_centred_and_scaled_by_what_was_seen(self):
        rng, normaliser = np.random.default_rng(0), ObservationNormaliser(floats(3))
        seen = rng.normal([5.0, -2.0, 0.0], [1.0, 10.0, 0.1], (50, 4, 3)).astype(np.float32)
        for batch in seen:
            normaliser.observe(batch)
        everything = seen.reshape(-1, 3).astype(np.float64)
        obs = rng.normal(size=(7, 3)).astype(np.float32)
        expected = (obs - everything.mean(axis=0)) / np.sqrt(everything.var(axis=0) + EPSILON)
        expected = np.clip(expected, -10, 10)
        found = normaliser(obs)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        in_torch = normaliser(torch.from_numpy(obs))
        assert in_torch.dtype == torch.float32
        np.testing.assert_allclose(in_torch.numpy(), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(normaliser(obs[None]), found[None])  # time may lead
        assert np.abs(normaliser(everything)).mean() < 1

    def test_equal_those_of_sb3(self):
        from stable_baselines3.common.running_mean_std import RunningMeanStd

        theirs, ours = RunningMeanStd(epsilon=1e-12, shape=(2,)), ObservationNormaliser(floats(2))
        rng = np.random.default_rng(1)
        for _ in range(20):
            batch = rng.normal(3.0, 2.0, (4, 2))
            theirs.update(batch)
            ours.observe(batch)
        obs = rng.normal(size=(5, 2))
        expected = np.clip((obs - theirs.mean) / np.sqrt(theirs.var + 1e-8), -10, 10)
        np.testing.assert_allclose(ours(obs), expected, rtol=1e-5)

    def test_are_bounded(self):
        normaliser = ObservationNormaliser(floats(1), clip=2.0)
        normaliser.observe(np.array([[0.0], [1.0]]))
        assert normaliser(np.array([[1e9], [-1e9]])).tolist() == [[2], [-2]]
        assert normaliser(torch.tensor([[1e9]])).tolist() == [[2]]

    def test_are_hardly_changed_before_anything_was_seen(self):
        obs = np.array([[0.5, -0.5]], np.float32)
        np.testing.assert_allclose(ObservationNormaliser(floats(2))(obs), obs, rtol=1e-6)

    def test_a_constant_entry_becomes_zero(self):
        normaliser = ObservationNormaliser(floats(1))
        normaliser.observe(np.full((10, 1), 7.0, np.float32))
        assert normaliser(np.full((2, 1), 7.0, np.float32)).tolist() == [[0], [0]]

    def test_calling_it_changes_nothing(self):
        """Evaluation calls and never observes: the statistics are frozen in it."""
        normaliser = ObservationNormaliser(floats(2))
        normaliser.observe(np.random.default_rng(0).normal(size=(5, 2)))
        before = {name: value.clone() for name, value in normaliser.state_dict().items()}
        normaliser.train()(np.full((9, 2), 50.0))
        normaliser(torch.full((9, 2), 50.0))
        assert before
        assert all(torch.equal(value, before[name]) for name, value in normaliser.state_dict().items())

    def test_each_part_has_its_own_and_images_and_indices_pass(self):
        image = spaces.Box(0, 255, (5, 5, 3), np.uint8)
        space = spaces.Dict({"b": floats(2), "a": spaces.Tuple([floats(), spaces.Discrete(3)]), "c": image})
        normaliser = ObservationNormaliser(space)
        rng = np.random.default_rng(0)
        seen = {
            "b": rng.normal(4.0, 1.0, (100, 2)),
            "a": (rng.normal(-9.0, 5.0, 100), rng.integers(3, size=100)),
            "c": rng.integers(256, size=(100, 5, 5, 3), dtype=np.uint8),
        }
        normaliser.observe(seen)
        found = normaliser(seen)
        np.testing.assert_allclose(found["b"].mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(found["b"].std(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose([found["a"][0].mean(), found["a"][0].std()], [0, 1], atol=1e-5)
        assert found["a"][1] is seen["a"][1]
        assert found["c"] is seen["c"]
        assert {name.split(".")[-1] for name in normaliser.state_dict()} == {"count", "mean", "squares"}

    def test_statistics_travel_with_the_weights(self, tmp_path):
        from rl_lab.storage.checkpoint import Checkpoints

        one, other = ObservationNormaliser(floats(2)), ObservationNormaliser(floats(2))
        batches = np.random.default_rng(0).normal(3.0, 2.0, (10, 4, 2))
        for batch in batches[:5]:
            one.observe(batch)
        Checkpoints(tmp_path).save(5, {"weights": dict(one.state_dict())})
        load_weights(other, Checkpoints(tmp_path).load()[1]["weights"])
        for batch in batches[5:]:
            one.observe(batch), other.observe(batch)
        np.testing.assert_array_equal(one(batches), other(batches))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_tensors_and_arrays_far_from_0_are_normalised_alike(dtype, shape):
    """What is acted on without torch is what is learned from with it."""
    normaliser = ObservationNormaliser(spaces.Box(0, 10**8, shape, dtype))
    obs = (1e7 + 20 * np.random.default_rng(0).normal(size=(100, *shape))).astype(dtype)
    normaliser.observe(obs)
    out = normaliser(torch.from_numpy(obs))
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), normaliser(obs), atol=1e-6)
    assert out.std().item() == pytest.approx(1, rel=0.01)


class TestRewards:
    def test_are_divided_by_the_deviation_of_the_discounted_returns(self):
        rng, normaliser = np.random.default_rng(0), RewardNormaliser(0.9, 3)
        returns, seen = np.zeros(3), []
        for t in range(60):
            reward, first = rng.normal(1.0, 2.0, 3), np.array([t % 7 == 0, t % 5 == 0, t == 0])
            normaliser.observe(reward, first)
            returns = np.where(first, 0, returns) * 0.9 + reward
            seen.append(returns)
        deviation = np.sqrt(np.concatenate(seen).var() + EPSILON)
        reward = rng.normal(size=(4, 3))
        np.testing.assert_allclose(normaliser(reward), reward / deviation, rtol=1e-10)
        np.testing.assert_allclose(
            normaliser(torch.from_numpy(reward)).numpy(), reward / deviation, rtol=1e-6
        )
        assert normaliser(np.array([1e9, -1e9])).tolist() == [10, -10]

    def test_equal_those_of_sb3(self):
        import gymnasium
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

        theirs = VecNormalize(
            DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2), norm_obs=False, gamma=0.95
        )
        theirs.ret_rms.count = 1e-12  # they begin as if something had been seen
        ours, first = RewardNormaliser(0.95, 2), np.ones(2, np.bool_)
        rng = np.random.default_rng(0)
        theirs.seed(0)
        theirs.reset()
        for _ in range(200):
            _, normalised, done, _ = theirs.step(rng.integers(2, size=2))
            raw = theirs.get_original_reward()
            ours.observe(raw, first)
            first = done
            np.testing.assert_allclose(ours.moments.variance if ours.moments.count > 2 else theirs.ret_rms.var,
                                       theirs.ret_rms.var, rtol=1e-6)  # fmt: skip
        np.testing.assert_allclose(ours(raw), normalised, rtol=1e-5)

    def test_an_episode_begins_without_the_one_before(self):
        normaliser = RewardNormaliser(1.0, 2)
        normaliser.observe(np.array([5.0, 7.0]), np.array([True, True]))
        normaliser.observe(np.array([1.0, 1.0]), np.array([False, True]))
        assert normaliser.returns.tolist() == [6, 1]

    def test_only_statistics_are_weights(self):
        """A policy may be loaded for a vector of another width."""
        one, other = RewardNormaliser(0.9, 3), RewardNormaliser(0.9, 8)
        one.observe(np.arange(3.0), np.ones(3, np.bool_))
        load_weights(other, one.state_dict())
        np.testing.assert_array_equal(one(np.ones(2)), other(np.ones(2)))

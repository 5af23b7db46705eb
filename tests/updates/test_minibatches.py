"""Parts of a rollout to learn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl_lab.updates.minibatches import Minibatch, minibatches


class TestMinibatches:
    @staticmethod
    def whole(*shape):
        number = torch.arange(float(np.prod(shape))).reshape(shape)
        sequences = (
            {"is_first": number > 0, "state": (torch.arange(float(shape[-1])),)} if len(shape) == 2 else {}
        )
        return Minibatch({"a": number.unsqueeze(-1)}, *[number] * 5, **sequences)

    def test_each_epoch_shows_every_step_once_in_an_order_of_its_own(self):
        rng = np.random.default_rng(0)
        parts = list(minibatches(self.whole(10), 4, 2, rng))
        assert [len(part.action) for part in parts] == [4, 4, 2] * 2
        epochs = [torch.cat([p.value for p in parts[k : k + 3]]) for k in (0, 3)]
        for epoch in epochs:
            assert sorted(epoch.tolist()) == list(range(10))
        assert epochs[0].tolist() != epochs[1].tolist()
        for part in parts:
            assert torch.equal(part.obs["a"][:, 0], part.log_prob)

    @pytest.mark.parametrize("size", [None, 10, 64])
    def test_a_rollout_that_fits_is_taken_as_it_is(self, size):
        whole = self.whole(10)
        assert all(part is whole for part in minibatches(whole, size, 3, np.random.default_rng(0)))

    @pytest.mark.parametrize(
        ("size", "environments"), [(12, [3, 2]), (11, [2, 2, 1]), (1, [1] * 5), (99, [5])]
    )
    def test_sequences_stay_whole_and_keep_their_carry(self, size, environments):
        parts = list(minibatches(self.whole(4, 5), size, 1, np.random.default_rng(0)))
        assert [part.value.shape[1] for part in parts] == environments
        for part in parts:
            assert torch.equal(part.value[0], part.state[0])  # both count the environments in the first row
            assert torch.equal(part.value, part.value[0] + 5 * torch.arange(4.0)[:, None])
            assert torch.equal(part.is_first, part.value > 0)
        assert sorted(torch.cat([p.state[0] for p in parts]).tolist()) == [0, 1, 2, 3, 4]

"""What is drawn for each batch reaches the rows of that batch, in the online network and in the target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl_lab.nn.return_kinds import MEANS, ImplicitQuantiles, Quantiles
from rl_lab.seeding import Streams
from rl_lab.updates.draws import Drawing, Draws, Given, LossWithDraws
from rl_lab.updates.td import Batch, Outcome, TDLoss, select

STEPS, SIZE, WIDTH = 3, 4, 2


def batch(steps=STEPS, *shape):
    rows = torch.zeros(steps, *shape, SIZE)
    obs = torch.arange(steps * SIZE).reshape(steps, SIZE).float()
    return Batch(obs, rows.long(), rows, rows, rows, obs, None, None)


class Telling:
    """A network that keeps what it is called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, obs, state, is_first, given):
        self.calls.append((obs, given))
        return torch.zeros(len(obs), 2), ()


def drawn(kind=MEANS, width=WIDTH, **fields):
    return Drawing(Streams(0), width, kind)(batch(**fields))


def test_every_batch_has_draws_of_its_own_and_so_has_each_network():
    found = drawn(ImplicitQuantiles(8, 5, 6)).draws
    assert found.online.noise.shape == found.target.noise.shape == (STEPS, WIDTH)
    assert found.online.fractions.shape == (STEPS, SIZE, 5)
    assert found.target.fractions.shape == (STEPS, SIZE, 6)
    assert len(torch.cat((found.online.noise, found.target.noise)).unique()) == 2 * STEPS * WIDTH
    again = drawn(ImplicitQuantiles(8, 5, 6)).draws
    torch.testing.assert_close(again.online.fractions, found.online.fractions)


def test_nothing_is_drawn_where_nothing_is_random():
    assert not Drawing(Streams(0), 0, Quantiles(3)).any
    assert Drawing(Streams(0), 0, ImplicitQuantiles(3)).any
    assert drawn(width=WIDTH).draws.online.fractions is None


@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_target_sees_each_row_with_the_draws_of_its_batch(steps):
    given, target = drawn(ImplicitQuantiles(8, 5, 6), steps=steps), Telling()
    LossWithDraws(TDLoss(False, "huber")).add_next_values(target, given)
    ((obs, (noise, fractions)),) = target.calls
    expected = given.draws.target
    for row, number in enumerate(obs.flatten().tolist() if obs.ndim == 1 else range(steps * SIZE)):
        k, i = divmod(int(number), SIZE)
        torch.testing.assert_close(noise if noise.ndim == 1 else noise[row], expected.noise[k])
        torch.testing.assert_close(fractions[row], expected.fractions[k, i])


def test_the_online_network_chooses_and_predicts_with_the_same_draws():
    given, online = drawn(), Telling()
    one = select(given, 1)._replace(next_q=torch.zeros(SIZE, 2))
    LossWithDraws(TDLoss(True, "huber"))(online, one)
    assert len(online.calls) == 2
    for _, (noise, fractions) in online.calls:
        torch.testing.assert_close(noise, given.draws.online.noise[1])
        assert fractions is None


def test_errors_are_those_that_the_rule_told():
    told = Outcome(
        torch.zeros(1), torch.zeros(1), torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[3.0, 4.0]])
    )
    loss = LossWithDraws(TDLoss(False, "huber"))
    np.testing.assert_array_equal(loss.errors(None, told), [3, 4])
    np.testing.assert_array_equal(loss.errors(None, told._replace(error=None)), [1, 1])


def test_heads_stay_beside_what_is_drawn():
    nothing, learns = Given(None, None), torch.ones(STEPS, SIZE, 2)
    with_heads = batch()._replace(draws=Draws(nothing, nothing, learns))
    assert Drawing(Streams(0), WIDTH, MEANS)(with_heads).draws.learns is learns

"""Encoders: one for every kind of space, composed by key, with sizes that are checked before."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from torch import nn

from boxes import NESTED, floats, uint8
from generated import UNEVEN
from networks import layers_of, make_encoder, make_q_network, refuse_encoder
from rl_lab.nn.acting import numpy_sequential
from rl_lab.nn.encoders import ENCODERS, Embeddings, OneHot, OneHots, blank
from rl_lab.nn.images import Residual, is_image
from rl_lab.nn.layers import Flat
from rl_lab.trees import map_leaves
from rl_lab.types import UsageError


def batch_of(space, size=3, seed=0):
    """Samples as an environment's vector gives them, as tensors."""
    many = batch_space(space, size)
    many.seed(seed)
    return map_leaves(torch.as_tensor, many.sample())


SPACES = {
    "scalar": (floats(), 1),
    "vector": (floats(4), 4),
    "matrix": (floats(2, 3), 6),
    "bytes": (spaces.Box(0, 255, (7,), np.uint8), 7),
    "doubles": (spaces.Box(-1, 1, (4,), np.float64), 4),
    "booleans": (spaces.Box(0, 1, (4,), np.bool_), 4),
    "discrete": (spaces.Discrete(5, start=3), 5),
    "multi-discrete": (spaces.MultiDiscrete([2, 5, 3], start=[0, 7, -2]), 10),
    "a matrix of indices": (spaces.MultiDiscrete([[2, 3], [4, 5]]), 14),
    "multi-binary": (spaces.MultiBinary(6), 6),
    "a matrix of bits": (spaces.MultiBinary([2, 3]), 6),
    "grey": (uint8(6, 6), 64),
    "channels last": (uint8(7, 7, 3), 64 * 4),
    "channels first": (uint8(3, 6, 6), 64),
    "large": (uint8(4, 84, 84), 3136),
    "stacked": (uint8(4, 84, 84, 3), 3136),
    "stacked, channels first": (uint8(4, 3, 6, 6), 64),
    "too small for an image": (uint8(4, 4), 16),
    "dict": (spaces.Dict({"a": floats(3), "b": spaces.Discrete(4)}), 7),
    "tuple": (spaces.Tuple([spaces.Discrete(4), floats(3)]), 7),
    "nested": (NESTED, 64 * 1 + 64 * 1 + 4 + 14 + 6 + 6),
}


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]


class TestEverySpace:
    def test_is_encoded_to_flat_floats_of_the_promised_size(self, space):
        space, size = space
        for hidden, width in (((), size), ((12, 9), 9)):
            encoder = make_encoder("auto", space, hidden)
            features = encoder(batch_of(space))
            assert encoder.size == width
            assert features.shape == (3, width)
            assert features.dtype == torch.float32

    def test_a_batch_is_encoded_as_its_rows_are(self, space):
        space, _ = space
        encoder, batch = make_encoder("auto", space, (8,)), batch_of(space, 4)
        rows = [encoder(map_leaves(lambda leaf, k=k: leaf[k : k + 1], batch)) for k in range(4)]
        torch.testing.assert_close(encoder(batch), torch.cat(rows), atol=1e-5, rtol=1e-5)

    def test_a_blank_observation_lies_within_it(self, space):
        space, _ = space
        one = map_leaves(lambda leaf: leaf[0].numpy()[()], blank(space, 2))
        assert space.contains(one)

    def test_works_in_a_network_that_learns(self, space):
        space, _ = space
        net = make_q_network(space, 3, hidden=(8,), memory="gru", memory_size=4)
        obs = map_leaves(lambda leaf: torch.stack([leaf, leaf]), batch_of(space))  # [T, B, ...]
        first = torch.zeros(2, 3, dtype=torch.bool)
        q, _ = net(obs, net.initial_state(3), first)
        q.square().sum().backward()
        assert q.shape == (2, 3, 3)
        assert all(p.grad is not None for p in net.parameters())


class TestIndices:
    SPACE = spaces.MultiDiscrete([2, 3], start=[0, 5])

    def test_components_become_one_hot_vectors_side_by_side(self):
        encoder = make_encoder("auto", self.SPACE, ())
        assert encoder(torch.tensor([[0, 5], [1, 7]])).tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1]]

    def test_bits_stay_as_they_are_unless_one_hot_vectors_are_asked_for(self):
        bits = torch.tensor([[0, 1]], dtype=torch.int8)
        assert make_encoder("auto", spaces.MultiBinary(2), ())(bits).tolist() == [[0, 1]]
        assert make_encoder("onehot", spaces.MultiBinary(2), ())(bits).tolist() == [[1, 0, 0, 1]]

    @pytest.mark.parametrize("name", ["embedding", "auto"])
    def test_embeddings_have_a_vector_of_its_own_for_each_value_of_each_component(self, name):
        encoder = make_encoder(name, self.SPACE, (), embedding_size=4)
        table = encoder.layers[0].table.weight
        assert table.shape == (5, 4)
        found = encoder(torch.tensor([[0, 5], [1, 7]]))
        torch.testing.assert_close(found, torch.stack([table[[0, 2]].flatten(), table[[1, 4]].flatten()]))

    def test_embeddings_of_discrete_observations_count_from_the_start(self):
        encoder = make_encoder("embedding", spaces.Discrete(3, start=-1), ())
        table = encoder.layers[0].table.weight
        assert encoder.size == 16
        torch.testing.assert_close(encoder(torch.tensor([-1, 1])), table[[0, 2]])

    @pytest.mark.parametrize(
        ("space", "kind"),
        [
            (spaces.Discrete(20_000), OneHot),
            (spaces.Discrete(20_001, start=5), Embeddings),
            (spaces.MultiDiscrete([10_000, 10_000]), OneHots),
            (spaces.MultiDiscrete([10_000, 10_001]), Embeddings),
            (spaces.MultiBinary(15_000), Flat),
        ],
    )  # fmt: skip
    def test_many_values_are_embedded_unless_told_otherwise(self, space, kind):
        assert isinstance(make_encoder("auto", space, ()).layers[0], kind)
        assert isinstance(
            make_encoder("auto", spaces.Dict({"a": space}), ()).layers[0].parts[0].layers[0], kind
        )
        assert not isinstance(make_encoder("onehot", space, ()).layers[0], Embeddings)

    def test_as_many_values_as_fit_nowhere_are_embedded_and_acted_on_without_their_square(self):
        with torch.device("meta"):
            layer = make_encoder("auto", spaces.Discrete(5_000_000), ()).layers[0]
        assert layer.table.weight.shape == (5_000_000, 16)
        assert "at most 1000000 values, not 5000000" in refuse_encoder("onehot", spaces.Discrete(5_000_000))
        act = numpy_sequential([make_encoder("onehot", spaces.Discrete(300_000, start=2), ()).layers[0]])
        row = act(np.array([2, 300_001]))
        assert row.shape == (2, 300_000)
        assert np.argwhere(row).tolist() == [[0, 0], [1, 299_999]]

    def test_one_hot_by_name_wins_over_a_width(self):
        encoder = make_encoder("onehot", self.SPACE, (), embedding_size=4)
        assert isinstance(encoder.layers[0], OneHots)


class TestComposition:
    def test_parts_are_concatenated_in_the_order_of_their_sorted_keys(self):
        encoder = make_encoder("auto", spaces.Dict({"b": floats(2), "a": spaces.Discrete(3)}), ())
        obs = {"b": torch.tensor([[7.0, 8.0]]), "a": torch.tensor([1])}
        assert encoder(obs).tolist() == [[0, 1, 0, 7, 8]]

    def test_the_order_of_insertion_changes_nothing(self):
        parts = {"b": floats(2), "a": spaces.Discrete(3), "c": uint8(5, 5)}
        found = []
        for keys in ("abc", "cba", "bca"):
            space = spaces.Dict([(key, parts[key]) for key in keys])
            torch.manual_seed(0)
            encoder = make_encoder("auto", space, (6,))
            obs = batch_of(spaces.Dict(parts))
            found.append(encoder({key: obs[key] for key in reversed(keys)}))
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    def test_a_tuple_keeps_its_order(self):
        encoder = make_encoder("auto", spaces.Tuple([floats(2), spaces.Discrete(2)]), ())
        assert encoder((torch.tensor([[7.0, 8.0]]), torch.tensor([1]))).tolist() == [[7, 8, 0, 1]]

    def test_keys_may_be_called_anything(self):
        space = spaces.Dict({"forward": floats(1), "a.b": floats(1), "parts": floats(1), "": floats(1)})
        assert make_encoder("auto", space, ())(batch_of(space)).shape == (3, 4)

    def test_a_name_holds_for_the_parts_that_it_takes(self):
        encoder = make_encoder("impala", NESTED, ())
        assert len(layers_of(encoder, Residual)) == 2 * 6
        assert len(layers_of(encoder, OneHots)) == 1
        encoder = make_encoder("embedding", NESTED, ())
        assert len(layers_of(encoder, Embeddings)) == 3
        assert len(layers_of(encoder, nn.Conv2d)) == 2 + 3
        assert not layers_of(make_encoder("mlp", NESTED, ()), nn.Conv2d)
        both = make_encoder("small", NESTED, (), embedding_size=2)
        assert len(layers_of(both, Embeddings)) == 3
        assert len(layers_of(both, nn.Conv2d)) == 2 + 2


class TestImages:
    @pytest.mark.parametrize(
        ("name", "pooling"),
        [
            ("cnn", "none"),
            ("cnn", "max"),
            ("small", "none"),
            ("small", "max"),
            ("small", "average"),
            ("impala", "none"),
        ],
    )
    @pytest.mark.parametrize("shape", ["{0} {0}", "{0} 50 1", "1 50 {0}"])
    def test_the_refusal_of_a_small_image_names_the_smallest_that_works(self, name, pooling, shape):
        def space(side):
            return uint8(*map(int, shape.format(side).split()))

        reason = refuse_encoder(name, space(1), pooling=pooling)
        assert "\n" not in reason
        least = int(re.search(r"from (\d+)x(\d+), not", reason)[1])
        for side in range(1, least):
            assert f"from {least}x{least}" in refuse_encoder(name, space(side), pooling=pooling)
        assert refuse_encoder(name, space(least), pooling=pooling) is None
        encoder = make_encoder(name, space(least), (7,), pooling=pooling)
        assert encoder(batch_of(space(least))).shape == (3, 7)

    @pytest.mark.parametrize("name", ["cnn", "small", "impala"])
    @pytest.mark.parametrize("side", [9, 36, 50])
    def test_channels_first_and_last_are_the_same_image(self, name, side):
        first, last = uint8(3, side, side), uint8(side, side, 3)
        torch.manual_seed(0)
        one = make_encoder(name, first, (5,))
        torch.manual_seed(0)
        other = make_encoder(name, last, (5,))
        images = batch_of(first)
        torch.testing.assert_close(one(images), other(images.permute(0, 2, 3, 1)), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("name", ["cnn", "small", "impala"])
    def test_bytes_equal_floats_that_are_scaled_once(self, name):
        torch.manual_seed(0)
        of_bytes = make_encoder(name, uint8(3, 9, 9), (5,))
        torch.manual_seed(0)
        of_floats = make_encoder(name, floats(3, 9, 9), (5,))
        images = batch_of(uint8(3, 9, 9))
        torch.testing.assert_close(of_bytes(images), of_floats(images / 255))

    def test_small_is_small_at_any_size(self):
        assert len(layers_of(make_encoder("small", uint8(84, 84), ()), nn.Conv2d)) == 2

    @pytest.mark.parametrize(("pooling", "kind"), [("max", nn.MaxPool2d), ("average", nn.AvgPool2d)])
    def test_pooling_halves_in_place_of_the_stride(self, pooling, kind):
        encoder = make_encoder("auto", uint8(10, 10), (), pooling=pooling)
        assert len(layers_of(encoder, kind)) == 1
        assert [layer.stride for layer in layers_of(encoder, nn.Conv2d)] == [(1, 1), (1, 1)]
        assert encoder.size == 64 * 3 * 3

    def test_impala_has_fifteen_convolutions_that_halve_thrice(self):
        """Espeholt et al. (2018), figure 3: three blocks of one and two times two convolutions."""
        encoder = make_encoder("impala", uint8(64, 64, 3), (256,))
        convolutions = layers_of(encoder, nn.Conv2d)
        assert [x.out_channels for x in convolutions] == [16] * 5 + [32] * 10
        assert [x.in_features for x in layers_of(encoder, nn.Linear)] == [32 * 8 * 8]

    def test_a_residual_block_adds_to_its_input(self):
        block, x = Residual(4), torch.randn(2, 4, 5, 5)
        with torch.no_grad():
            for p in block.branch[3].parameters():
                p.zero_()
        assert torch.equal(block(x), x)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "space", "fields", "says"),
        [
            ("resnet", floats(4), {}, f"encoder 'resnet' is unknown (allowed: {', '.join(ENCODERS)})"),
            ("auto", floats(4), {"pooling": "mean"}, "pooling 'mean' is unknown (allowed: none, max, average)"),
            ("impala", uint8(64, 64), {"pooling": "max"}, "pooling 'max' goes with encoder 'small' alone"),
            ("auto", uint8(64, 64), {"pooling": "max"}, "pooling 'max' goes with encoder 'small' alone"),
            ("onehot", floats(4), {}, "takes Discrete, MultiDiscrete or MultiBinary observations, not Box"),
            ("embedding", uint8(8, 8), {}, "takes Discrete, MultiDiscrete or MultiBinary observations"),
            ("impala", spaces.Discrete(4), {}, "takes images (Box with 2, 3 or 4 axes), not Discrete(4)"),
            ("auto", spaces.Sequence(floats(2)), {}, "observations, not Sequence"),
            ("auto", floats(0), {}, "hold no numbers (allowed: at least one)"),
            ("mlp", spaces.Dict({"a": floats(2), "b": floats(2, 0)}), {}, "hold no numbers"),
            ("onehot", UNEVEN, {}, "observations, not Box(-2.0, 2.0, (2, 2), float32)"),
            ("cnn", spaces.Dict({"a": floats(2)}), {}, "encoder 'cnn' finds no image among Dict"),
            ("onehot", spaces.Tuple([floats(2)]), {}, "encoder 'onehot' finds no discrete part among Tuple"),
            ("small", uint8(4, 4), {}, "takes images from 5x5, not 4x4"),
            ("auto", spaces.Tuple([spaces.Text(3)]), {}, "observations, not Text"),
        ],
    )  # fmt: skip
    def test_are_one_line_and_name_what_is_allowed(self, name, space, fields, says):
        with pytest.raises(UsageError) as caught:
            make_encoder(name, space, (8,), **fields)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert refuse_encoder(name, space, **fields) == str(caught.value)

    def test_activations_and_initialisations_are_named(self):
        with pytest.raises(
            UsageError, match=r"activation 'selu' is unknown \(allowed: relu, tanh, elu, gelu"
        ):
            make_encoder("auto", floats(4), (8,), activation="selu")
        with pytest.raises(
            UsageError, match=r"initialisation 'zero' is unknown \(allowed: default, orthogonal"
        ):
            make_q_network(floats(4), 2, initialisation="zero")


def test_flat_and_images_are_told_apart_as_before():
    assert is_image(uint8(5, 5))
    assert isinstance(make_encoder("auto", floats(5, 5), ()).layers[0], Flat)

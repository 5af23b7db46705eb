"""What is compiled: kept on the machine, told apart by what it does, and never taken for something else."""

from __future__ import annotations

import shutil
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from networks import make_q_network
from rl_lab.nn.encoders import blank
from rl_lab.trees import leaves_of
from rl_lab.updates import compiling, libraries
from rl_lab.updates.compiling import compiled, has_compiler, signature_of

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")


class Pair(NamedTuple):
    """A tree with a name, a dict, a tuple and a hole."""

    one: Any
    other: Any


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """An empty folder for packages, in a process that has compiled nothing; it stands for a machine of its own."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_COMPILED", {})
    return lambda: sorted(libraries.library_folder().glob("*.so"))


def shifted(by: list[float]):
    """A function with a constant tensor in it, which adds to its second argument in place."""

    def function(x: Tensor, total: Tensor) -> list[Tensor]:
        total.add_(x)
        return [2 * x + torch.tensor(by)]

    return function


def call(by: list[float]) -> list[list[float]]:
    x, total = torch.ones(2), torch.zeros(2)
    found = compiled(str(by), shifted(by), x, total)([x, total])
    return [tensor.tolist() for tensor in (*found, total)]


def another_process(monkeypatch):
    monkeypatch.setattr(compiling, "_COMPILED", {})


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The folder of a machine on which `call([1.0, 2.0])` has been compiled."""
    folder = tmp_path_factory.mktemp("used")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        another_process(patch)
        assert call([1.0, 2.0]) == [[3.0, 4.0], [1.0, 1.0]]
    assert len(list(folder.rglob("*.so"))) == 1
    return folder / "rl_lab"


@pytest.mark.long
def test_it_is_compiled_once_on_a_machine(used, packages, monkeypatch):
    shutil.copytree(used, libraries.library_folder(), dirs_exist_ok=True)
    monkeypatch.setattr(compiling, "_compile", lambda *_: pytest.fail("compiled again"))
    assert call([1.0, 2.0]) == [[3.0, 4.0], [1.0, 1.0]]


@pytest.mark.long
def test_functions_that_differ_in_a_constant_are_not_taken_for_each_other(used, packages):
    shutil.copytree(used, libraries.library_folder(), dirs_exist_ok=True)
    assert call([1.0, 3.0])[0] == [3.0, 5.0]
    assert len(packages()) == 2
    assert call([1.0, 2.0])[0] == [3.0, 4.0]


def test_a_package_is_named_after_function_tensors_and_threads():
    def digest(by: float, *leaves: Tensor) -> str:
        return compiling._digest(compiling._trace(shifted([1.0, by]), leaves, list(leaves)), list(leaves))

    def two() -> Tensor:
        return torch.ones(2)

    threads, one = torch.get_num_threads(), digest(2.0, two(), two())
    assert digest(2.0, two(), two()) == one
    others = {
        digest(3.0, two(), two()),
        digest(2.0, torch.ones(4)[::2], two()),
        digest(2.0, two().int(), two()),
    }
    torch.set_num_threads(threads + 1)
    try:
        others.add(digest(2.0, two(), two()))
    finally:
        torch.set_num_threads(threads)
    assert len(others) == 4
    assert one not in others


@pytest.mark.parametrize(
    ("owner", "name", "other"),
    [
        (torch, "__version__", "0.0"),
        (compiling, "INDUCTOR_OPTIONS", {"cpp.threads": 3}),
        (compiling, "_processor", lambda: "another"),
    ],
)
def test_a_package_is_named_after_what_made_it(monkeypatch, owner, name, other):
    x, total = torch.ones(2), torch.zeros(2)
    traced = compiling._trace(shifted([1.0, 2.0]), (x, total), [x, total])
    before = compiling._digest(traced, [x, total])
    assert compiling._digest(traced, [x, total]) == before
    monkeypatch.setattr(owner, name, other)
    assert compiling._digest(traced, [x, total]) != before


def test_trees_of_another_structure_are_of_another_kind():
    x, y = torch.ones(2), torch.zeros(2)
    trees = [{"a": x, "b": y}, {"b": y, "a": x}, (x, y), (x, None, y), ((x,), y), Pair(x, y), {"a": (x, y)}]
    assert len({signature_of(tree) for tree in trees}) == len(trees)
    assert signature_of({"a": y, "b": x}) == signature_of(trees[0])


def weighed(pair: Pair, scale: Tensor) -> list[Tensor]:
    return [scale * (pair.one["b"] + 2 * pair.one["a"][0]), pair.other[1]]


def trees(b: Tensor, a: Tensor) -> tuple[Pair, Tensor]:
    """What `weighed` takes; None stands where nothing is."""
    return Pair({"b": b, "a": (a, None)}, (None, torch.arange(3))), torch.tensor(5.0)


@pytest.fixture(scope="module")
def of_trees(tmp_path_factory):
    """`weighed`, compiled while one tensor is given twice; and the trees that came to it."""
    seen = []

    def function(pair: Pair, scale: Tensor) -> list[Tensor]:
        seen.append(pair)
        return weighed(pair, scale)

    folder, x = tmp_path_factory.mktemp("trees"), torch.ones(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
        another_process(patch)
        return compiled("trees", function, *trees(x, x)), seen


@pytest.mark.long
def test_a_tensor_that_is_given_twice_is_no_longer_so_in_the_next_call(of_trees):
    function, x = of_trees[0], torch.ones(3)
    assert function(leaves_of(trees(x, x)))[0].tolist() == [15.0] * 3
    assert function(leaves_of(trees(x, torch.zeros(3))))[0].tolist() == [5.0] * 3


@pytest.mark.long
def test_trees_come_to_the_function_as_they_are(of_trees):
    function, seen = of_trees
    found = function(leaves_of(trees(torch.ones(3), torch.full((3,), 2.0))))
    assert [x.tolist() for x in found] == [[25.0] * 3, [0, 1, 2]]
    assert type(seen[0]) is Pair
    assert seen[0].one["a"][1] is seen[0].other[0] is None


@pytest.mark.long
def test_indices_of_every_kind_are_encoded_as_eagerly(packages):
    """Their encoders hold constants, and start where the space does."""
    parts = {
        "many": spaces.MultiDiscrete([3, 4], start=[1, 2]),
        "one": spaces.Discrete(5, start=2),
        "x": spaces.Box(-1, 1, (2,), np.float32),
    }
    space = spaces.Dict(parts)
    obs = {k: value + (1 if value.dtype == torch.int64 else 0.5) for k, value in blank(space, 6).items()}
    networks = [make_q_network(space, 3, encoder=name, hidden=(8,)) for name in ("onehot", "embedding")]
    weights = tuple(compiling.bare_weights(network) for network in networks)

    def values(weights: tuple[dict[str, Tensor], ...], obs: Any) -> list[Tensor]:
        pairs = zip(networks, weights, strict=True)
        return [compiling.with_weights(network, own)(obs)[0] for network, own in pairs]

    found = compiled("indices", values, weights, obs)(leaves_of((weights, obs)))
    for network, ours in zip(networks, found, strict=True):
        torch.testing.assert_close(ours, network(obs)[0].detach(), atol=1e-6, rtol=1e-6)

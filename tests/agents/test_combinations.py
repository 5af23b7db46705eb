"""Every encoder with every memory learns from the command line, or says in a line why it can't."""

from __future__ import annotations

import re
from itertools import combinations, product

import gymnasium
import pytest

from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.nn.cores import CORES
from rl_lab.nn.encoders import ENCODERS
from toys import Parts

gymnasium.register("test/Parts-v0", Parts, max_episode_steps=10)  # something for every encoder

BRIEF = [
    "--total-steps", "60", "--hidden", "8", "--eval-episodes", "1", "--eval-max-steps", "5",
    "--video-episodes", "0", "--no-pictures", "--wandb", "disabled", "--device", "cpu", "--eval-every-steps", "30",
    "--log-every-steps", "20", "--checkpoint-every-steps", "30",
]  # fmt: skip
REPLAYED = [
    "--learning-starts-env-steps", "20", "--replay-capacity", "60", "--batch-size", "4",
]  # fmt: skip
AGENTS = {
    "dqn": REPLAYED,
    "clone": [*REPLAYED, "--oracle", "--held-out", "0"],
    "ppo": ["--n-steps", "20", "--batch-size", "10", "--n-epochs", "1"],
    "a2c": [],
    "pqn": ["--n-steps", "20", "--batch-size", "10", "--n-epochs", "1"],
    "reinforce": ["--n-steps", "20"],
}
WORLDS = {
    "vector": ("lab/GridWorldCoordinates-v0", {"auto", "mlp"}),
    "image": ("lab/GridWorldPixels-v0", {"auto", "mlp", "cnn", "small", "minatar", "impala"}),
    "index": ("FrozenLake-v1", {"auto", "mlp", "onehot", "embedding"}),
    "parts": ("test/Parts-v0", set(ENCODERS)),
}
KNOWN = ("vector", "image", "index")  # whose optimum there is to clone


FACTORS = ("agent", "world", "encoder", "memory")


def covering(everything, size):
    """Return combinations that together hold every pair or triple of values; greedily, so that few suffice."""
    held = {c: set(combinations(enumerate(c), size)) for c in everything}  # each value named by its position
    missing = set().union(*held.values())
    chosen = []
    while missing:
        chosen.append(max(everything, key=lambda c: len(held[c] & missing)))
        missing -= held[chosen[-1]]
    return chosen


EVERYTHING = [
    (agent, world, encoder, memory)
    for agent, world, encoder, memory in product(AGENTS, WORLDS, ENCODERS, CORES)
    if agent != "clone" or world in KNOWN
]
# What shares its network with `dqn`, and its convolutions with `small`, is tried in the quick ones alone.
ALIKE = {"pqn", "minatar"}
OTHERS = [c for c in EVERYTHING if not ALIKE & set(c)]
QUICK, LONG = covering(EVERYTHING, 2), covering(OTHERS, 3)
TRIED = list(dict.fromkeys([*QUICK, *LONG]))


@pytest.mark.parametrize(
    ("some", "every", "names"),
    [(QUICK, EVERYTHING, names) for names in combinations(range(len(FACTORS)), 2)]
    + [(LONG, OTHERS, names) for names in combinations(range(len(FACTORS)), 3)],
)
def test_quick_combinations_hold_every_pair_and_long_ones_every_triple(some, every, names):
    held, all_of = ({tuple(c[i] for i in names) for c in which} for which in (some, every))
    assert held == all_of


@pytest.mark.parametrize(
    FACTORS, [pytest.param(*c, marks=() if c in QUICK else pytest.mark.long) for c in TRIED]
)
def test_combination(world, agent, encoder, memory, tmp_path, capsys):
    env_id, takes = WORLDS[world]
    chosen = ["--encoder", encoder, "--memory", memory, "--run-dir", str(tmp_path / "run")]
    if memory != "none":
        chosen += ["--memory-size", "8", *["--sequence-length", "4"] * (agent in ("dqn", "clone"))]
    with pytest.raises(SystemExit) as ended:
        main(lambda _: train(["--agent", agent, "--env-id", env_id, *chosen, *BRIEF, *AGENTS[agent]]), [])
    error = capsys.readouterr().err.strip()
    if encoder in takes:
        assert ended.value.code == 0, error
        assert (tmp_path / "run" / "summary.json").exists()
    else:
        assert ended.value.code == 2
        assert re.match(rf"error: encoder '{encoder}' takes .*", error.splitlines()[-1])
        assert not (tmp_path / "run").exists()

"""Every encoder with every memory learns from the command line, or says in a line why it can't."""

from __future__ import annotations

import re

import gymnasium
import pytest

from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.nn.cores import CORES
from rl_lab.nn.encoders import ENCODERS
from toys import Parts

gymnasium.register("test/Parts-v0", Parts, max_episode_steps=10)  # something for every encoder

BRIEF = [
    "--total-steps", "60", "--memory-size", "8", "--hidden", "8", "--eval-episodes", "1", "--eval-max-steps", "5",
    "--video-episodes", "0", "--no-pictures", "--wandb", "disabled", "--device", "cpu", "--eval-every-steps", "30",
    "--log-every-steps", "20", "--checkpoint-every-steps", "30",
]  # fmt: skip
REPLAYED = [
    "--learning-starts-env-steps", "20", "--replay-capacity", "60", "--batch-size", "4", "--sequence-length", "4",
]  # fmt: skip
AGENTS = {
    "dqn": REPLAYED,
    "clone": [*REPLAYED, "--oracle", "--held-out", "0"],
    "ppo": ["--n-steps", "20", "--batch-size", "10", "--n-epochs", "1"],
    "a2c": [],
    "reinforce": ["--n-steps", "20"],
}
WORLDS = {
    "vector": ("lab/GridWorldCoordinates-v0", {"auto", "mlp"}),
    "image": ("lab/GridWorldPixels-v0", {"auto", "mlp", "cnn", "small", "impala"}),
    "index": ("FrozenLake-v1", {"auto", "mlp", "onehot", "embedding"}),
    "parts": ("test/Parts-v0", set(ENCODERS)),
}
KNOWN = ("vector", "image", "index")  # whose optimum there is to clone


def combinations():
    """Return all of them; of those with one agent, world and encoder, all memories but one are long tests.

    That one goes round, so that the others still meet every pair of a memory with an agent, a world or an encoder.
    """
    found = []
    pairs = [(a, w) for a in AGENTS for w in WORLDS if a != "clone" or w in KNOWN]
    for i, (agent, world) in enumerate(pairs):
        for j, encoder in enumerate(ENCODERS):
            for k, memory in enumerate(CORES):
                quick = (i + j) % len(CORES) == k
                found.append(
                    pytest.param(agent, world, encoder, memory, marks=() if quick else pytest.mark.long)
                )
    return found


@pytest.mark.parametrize("names", [("agent", "memory"), ("world", "memory"), ("encoder", "memory")])
def test_quick_combinations_hold_every_pair(names):
    drawn = [
        dict(zip(("agent", "world", "encoder", "memory"), p.values, strict=True)) for p in combinations()
    ]
    quick = [d for d, p in zip(drawn, combinations(), strict=True) if not p.marks]
    pairs, some = ({tuple(d[name] for name in names) for d in which} for which in (drawn, quick))
    assert some == pairs
    assert len(quick) == len(drawn) / len(CORES)


@pytest.mark.parametrize(("agent", "world", "encoder", "memory"), combinations())
def test_combination(world, agent, encoder, memory, tmp_path, capsys):
    env_id, takes = WORLDS[world]
    chosen = ["--encoder", encoder, "--memory", memory, "--run-dir", str(tmp_path / "run")]
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

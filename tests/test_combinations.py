"""Every encoder with every memory learns from the command line, or says in a line why it can't."""

from __future__ import annotations

import re

import pytest

from rl_lab.cli import main, train
from rl_lab.nn.encoders import ENCODERS
from rl_lab.nn.recurrent import CORES

BRIEF = [
    "--total-steps", "60", "--learning-starts-env-steps", "20", "--replay-capacity", "60", "--batch-size", "4",
    "--sequence-length", "4", "--memory-size", "8", "--eval-episodes", "1", "--eval-max-steps", "5",
    "--video-episodes", "0", "--wandb", "disabled", "--device", "cpu",
]  # fmt: skip
WORLDS = {
    "vector": (["--env-id", "CartPole-v1"], {"auto", "mlp"}),
    "image": (["--env-id", "lab/GridWorldPixels-v0"], {"auto", "mlp", "cnn", "small", "impala"}),
    "index": (["--env-id", "FrozenLake-v1"], {"auto", "mlp", "onehot", "embedding"}),
}


@pytest.mark.parametrize("memory", CORES)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("world", WORLDS)
def test_dqn(world, encoder, memory, tmp_path, capsys):
    words, takes = WORLDS[world]
    chosen = ["--encoder", encoder, "--memory", memory, "--hidden", "8", "--run-dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        main(lambda _: train(["--agent", "dqn", *words, *chosen, *BRIEF]), [])
    error = capsys.readouterr().err.strip()
    if encoder in takes:
        assert ended.value.code == 0, error
        assert (tmp_path / "run" / "summary.json").exists()
    else:
        assert ended.value.code == 2
        assert re.match(rf"error: encoder '{encoder}' takes .*", error.splitlines()[-1])
        assert not (tmp_path / "run").exists()

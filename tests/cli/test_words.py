"""Options as an agent of W&B's sweeps writes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from commands import QUICK, TABLE, call, require_refusal
from rl_lab.cli.parsing import parse
from rl_lab.cli.train import parse_train, train
from rl_lab.cli.words import plain_words
from rl_lab.types import UsageError


@dataclass(frozen=True)
class Inner:
    deep: bool = False


@dataclass(frozen=True)
class Options:
    flag: bool = False
    two_words: bool = True
    rate: float | None = 0.1
    sizes: tuple[int, ...] = (1,)
    names: tuple[str, ...] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    double: Literal["yes", "no"] = "yes"
    text: str = ""


@pytest.mark.parametrize(
    ("words", "plain"),
    [
        (["--flag=True"], ["--flag"]),
        (["--flag=false"], ["--no-flag"]),
        (["--two_words=False"], ["--no-two_words"]),
        (["--flag", "True", "--rate", "1"], ["--flag", "--rate", "1"]),
        (["--flag", "--text", "True"], ["--flag", "--text", "True"]),
        (["--sizes=[64, 32]"], ["--sizes", "64", "32"]),
        (["--sizes=(64, 32)"], ["--sizes", "64", "32"]),
        (["--sizes=(64,)"], ["--sizes", "64"]),
        (["--names=['a', 'b c']"], ["--names", "a", "b c"]),
        (["--names=[]"], ["--names"]),
        (["--kwargs={'slip': False, 'n': 3}"], ["--kwargs", "slip=False", "n=3"]),
        (["--double=True"], ["--double=yes"]),
        (["--double=False"], ["--double=no"]),
        (["--text=[a]", "--text=True"], ["--text=[a]", "--text=True"]),
        (["--rate=None", "--unknown=True", "word", "-h"], ["--rate=None", "--unknown=True", "word", "-h"]),
        (["--other-name=3"], ["--rate=3"]),
        (["--other_name", "3"], ["--rate", "3"]),
    ],
)
def test_words_become_those_of_the_parser(words, plain):
    assert plain_words(words, Options, {"other_name": "rate"}) == plain


def test_a_flag_has_no_other_values():
    with pytest.raises(UsageError, match="--flag=maybe: allowed are True and False"):
        plain_words(["--flag=maybe"], Options)


def test_the_parser_takes_them():
    words = ["--flag=True", "--two_words=False", "--sizes=[64,32]", "--rate=None", "--double=False"]
    found = parse(Options, [*words, "--kwargs={'slip': False}"], program="x", about="")
    assert found == Options(True, False, None, (64, 32), None, {"slip": False}, "no")


def test_flags_of_inner_dataclasses_are_known():
    @dataclass(frozen=True)
    class Outer:
        inner: Inner

    Outer.__annotations__["inner"] = Inner  # local names can't be looked up
    assert plain_words(["--deep=True"], Outer) == ["--deep"]


def test_train_takes_what_an_agent_of_a_sweep_passes():
    words = [f"--{k}={v}" for k, v in {
        "agent": "dqn", "env_id": "CartPole-v1", "learning_rate": 0.003, "hidden": [64, 32], "pictures": False,
        "seed": 7, "wandb_tags": ["a", "b"], "wandb_group": "g", "resume": False,
        "env_kwargs": {"sutton_barto_reward": True},
    }.items()]  # fmt: skip
    _, fields = parse_train(words)
    assert (fields["learning_rate"], fields["hidden"], fields["pictures"]) == (0.003, (64, 32), False)
    assert (fields["seed"], fields["wandb_tags"], fields["group"]) == (7, ("a", "b"), "g")
    assert fields["env_kwargs"] == {"sutton_barto_reward": True}


def test_a_wrong_flag_is_refused_in_a_line(capsys):
    require_refusal(
        call(capsys, train, *TABLE, *QUICK, "--pictures=maybe"), "--pictures=maybe", "True and False"
    )

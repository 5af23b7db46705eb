"""Whatever is typed: parsed, or refused with exit code 2 and one line."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from fuzz import fuzzed, outcome
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.parsing import parse
from rl_lab.cli.record import RecordOptions
from rl_lab.cli.solve import SolveOptions
from rl_lab.cli.train import TrainOptions, parse_train
from rl_lab.cli.watch import WatchOptions
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, config_of, make_config
from rl_lab.training.setup import configs_of
from rl_lab.types import UsageError

AGENTS = ("q-learning", "dqn", "value-iteration", "random")
for name in AGENTS:
    config_of(name)  # imported before anything is drawn


def train_configs(argv):
    """Read a command line as `train` does, and what `learn` makes of it before there is an environment."""
    options, fields = parse_train(argv)
    return configs_of(options.agent, fields)


def compared(argv):
    """Read a command line as `compare` does, with the agents' configs."""
    return study_of(parse(CompareOptions, argv, program="x", about="")).eval_gamma()


PARSERS = {
    "compare": (compared, (CompareOptions,)),
    "watch": (lambda argv: parse(WatchOptions, argv, program="x", about=""), (WatchOptions,)),
    "solve": (lambda argv: parse(SolveOptions, argv, program="x", about=""), (SolveOptions,)),
    "record": (lambda argv: parse(RecordOptions, argv, program="x", about=""), (RecordOptions,)),
    "train": (train_configs, (TrainOptions, RunConfig, config_of("q-learning"))),
}
BASES = {
    "compare": ["--env-id", "FrozenLake-v1", "--agents", "random"],
    "watch": ["runs/a"],
    "solve": ["--env-id", "FrozenLake-v1"],
    "record": ["--out", "data/a"],
    "train": ["--agent", "q-learning", "--env-id", "FrozenLake-v1"],
}
WORDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),  # no argument of a process holds a \0
    st.sampled_from([
        "", "-", "--", "---", "=", "--=", "-1", "1e5", "1.5", "nan", "1e400", "a=1", "a=[1", "a==", ":", "a:b=1",
        "q-learning:gamma=2", "random:x=1", "q-learning", "no-such-agent", "FrozenLake-v1", "-h=1", "--no-pictures",
        "True", "None", "\udcff", "a\nb", "{}", "[]", "!!python/object:os.system", "&a [*a]", "a=&a [*a]", "/", ".",
        "total_steps=1e3", "total_steps=x", "seed=true", "env_kwargs={a: 1}", "hidden=[1, 2]", "agent=3", "@x", "1_0",
        "*", "\\", "'", '"', "a=2020-01-01", "a=!!binary x", "a=0x10", "a=1:30", "9" * 5000,
    ]),
)  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn, command: str) -> list[str]:
    """Draw a command line: what the command needs, mostly, then options with values, and words without a place."""
    names = [f.name for kind in PARSERS[command][1] for f in dataclasses.fields(kind)]
    options = st.sampled_from([f"--{name.replace('_', '-')}" for name in names])
    argv = list(BASES[command]) if draw(st.integers(0, 3)) else []
    for _ in range(draw(st.integers(0, 3))):
        option = draw(options)
        how = draw(st.sampled_from(["value", "value", "equals", "alone", "several", "word"]))
        value = draw(WORDS)
        argv += {
            "value": [option, value], "equals": [f"{option}={value}"], "alone": [option],
            "several": [option, value, draw(WORDS)], "word": [value],
        }[how]  # fmt: skip
    return argv


@pytest.mark.parametrize(
    ("command", "examples"),
    [("train", 15), ("compare", 80), ("watch", 50), ("solve", 80), ("record", 80),
     pytest.param("train", 100, marks=pytest.mark.long)],
)  # fmt: skip
def test_it_is_parsed_or_refused_in_one_line(command, examples):
    @given(command_lines(command))
    @fuzzed(examples)
    def check(argv):
        outcome(PARSERS[command][0], argv)

    check()


class TestWholeNumbers:
    """Every integer option takes 1e5, and none takes 1.5."""

    @staticmethod
    def integers(kind):
        hints = typing.get_type_hints(kind)
        names = {f.name for f in dataclasses.fields(kind)}
        return [
            n for n, hint in hints.items() if n in names and {int} & set(typing.get_args(hint) or (hint,))
        ]

    @pytest.mark.parametrize("agent", agent_names())
    def test_of_an_agent_and_of_the_run(self, agent):
        base = ["--agent", agent, "--env-id", "FrozenLake-v1"]
        kinds = (RunConfig, config_of(agent)) if agent == "dqn" else (config_of(agent),)
        names = [name for kind in kinds for name in self.integers(kind)]
        idle = getattr(
            make_config(agent), "idle_fields", dict
        )()  # they are refused where others don't ask for them
        names = [name for name in names if name not in {*idle, "target_period_env_steps"}]
        given = [word for name in names for word in (f"--{name.replace('_', '-')}", "1e2")]
        parsed = parse_train([*base, *given])[1]
        for name in names:
            assert parsed[name] in (100, (100,)), name
            assert type(parsed[name]) in (int, tuple), name
        hints = {str(f.type): f.name for kind in kinds for f in dataclasses.fields(kind) if f.name in names}
        for name in hints.values():  # one of each type
            with pytest.raises(UsageError, match=r"'1\.5' (is not a whole number|must be whole numbers)$"):
                parse_train([*base, f"--{name.replace('_', '-')}", "1.5"])

    @pytest.mark.parametrize("command", ["compare", "watch", "solve", "record"])
    def test_of_a_command(self, command):
        kind = PARSERS[command][1][0]
        for name in self.integers(kind):
            option = f"--{name.replace('_', '-')}"
            found = parse(kind, [*BASES[command], option, "1e2"], program="x", about="")
            assert (getattr(found, name), type(getattr(found, name))) == (100, int)
            with pytest.raises(UsageError, match=r"'1\.5' is not a whole number$"):
                parse(kind, [*BASES[command], option, "1.5"], program="x", about="")

"""What all commands share: errors in one line, exit codes, help without a terminal."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import pytest

from commands import call, require_refusal
from rl_lab.cli.parsing import parse
from rl_lab.exporting.agreement import Disagrees
from rl_lab.storage.errors import CheckpointCorrupt, NotWritten
from rl_lab.types import EnvironmentFault, EnvironmentWarning, OneLineWarning, UsageError


@dataclass(frozen=True)
class Options:
    """Options of a command that only these tests have."""

    learning_rate: float = 0.5
    """Step size."""
    big: bool = False
    """Whether it is big."""
    bound: float | None = None
    """Bound, in a text that goes on
    on a second line."""
    names: tuple[str, ...] = ()
    """Names."""
    widths: tuple[int, ...] = ()
    """Widths."""
    bounds: tuple[float, ...] | None = None
    """Bounds."""
    pairs: dict[str, int] = field(default_factory=dict)
    """Pairs."""

    def __post_init__(self):
        if self.learning_rate < 0:
            raise UsageError(f"learning_rate must be at least 0, got {self.learning_rate}")


def echo(argv):
    print(parse(Options, argv, program="rl-lab echo", about="Print the options."))
    return 0


class TestMain:
    def test_an_error_is_a_line_of_cause_first_and_exit_code_1(self, capsys):
        def broken(argv):
            raise RuntimeError("first line\nsecond line")

        code, _, err = call(capsys, broken)
        assert code == 1
        assert err.splitlines()[0] == "error: RuntimeError: first line second line"

    @pytest.mark.parametrize("kind", [EnvironmentFault, Disagrees, NotWritten, CheckpointCorrupt])
    def test_a_fault_is_one_line_and_exit_code_1(self, capsys, kind):
        def broken(argv):
            raise kind("what is wrong")

        assert call(capsys, broken) == (1, "", "error: what is wrong\n")

    def test_a_code_is_passed_on(self, capsys):
        assert call(capsys, lambda argv: 75) == (75, "", "")

    @pytest.mark.parametrize(
        ("words", "named"),
        [(("no room for 8 TiB",), "not enough memory: no room for 8 TiB"), ((), "not enough memory")],
    )
    def test_a_lack_of_memory_is_one_line(self, capsys, words, named):
        def greedy(argv):
            raise MemoryError(*words)

        assert call(capsys, greedy) == (1, "", f"error: {named}\n")

    def test_values_that_become_infinite_are_one_line(self, capsys):
        def diverges(argv):
            raise FloatingPointError("weights 'q' are not finite at env step 7")

        said = "error: learning diverged: weights 'q' are not finite at env step 7\n"
        assert call(capsys, diverges) == (1, "", said)

    def test_what_is_to_be_known_of_an_environment_or_a_run_is_one_line(self, capsys):
        def warns(argv):
            for kind in (EnvironmentWarning, OneLineWarning, UserWarning):
                print(warnings.formatwarning("odd", kind, "file.py", 3, "line"), end="")
            return 0

        before = warnings.formatwarning
        assert call(capsys, warns)[1] == "warning: odd\nwarning: odd\nfile.py:3: UserWarning: odd\n  line\n"
        assert warnings.formatwarning is before

    def test_an_interrupt_is_one_line(self, capsys):
        def interrupted(argv):
            raise KeyboardInterrupt

        assert call(capsys, interrupted) == (130, "", "interrupted\n")


class TestParse:
    def test_reads_fields_as_options_with_hyphens_or_underscores(self, capsys):
        for word in ("--learning-rate", "--learning_rate"):
            assert call(capsys, echo, word, "0.25", "--big")[1] == f"{Options(0.25, True)}\n"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--learning-rate", "fast"], ["--learning-rate", "'fast'"]),
            (["--learning-rat", "1"], ["--learning-rat", "(close: --learning-rate; --help-all lists all"]),
            (["--learning-rate"], ["--learning-rate"]),
            (["--learning-rate", "-1"], ["error: learning_rate must be at least 0, got -1.0"]),
            (["--widths", "2.5"], ["error: Error parsing --widths: '2.5' must be whole numbers\n"]),
            (["--bounds", "1", "b"], ["error: Error parsing --bounds: '1', 'b' must be numbers\n"]),
            (["stray"], ["stray"]),
            ([""], ["Unrecognized options: '' (an empty word) (--help-all lists all options)"]),
            (["--no-such"], ["error: Unrecognized options: --no-such (--help-all lists all options)\n"]),
            (
                ["--bound", "high"],
                ["error: Error parsing --bound: could not convert string to float: 'high'\n"],
            ),
        ],
        ids=" ".join,
    )
    def test_refuses_in_one_line(self, capsys, words, named):
        require_refusal(call(capsys, echo, *words), *named)

    @pytest.mark.parametrize("word", ["-h", "--help", "--help-all"])
    def test_help_wins_over_what_is_wrong(self, capsys, word):
        code, out, err = call(capsys, echo, "--no-such", word)
        assert (code, err) == (0, "")
        assert "usage: rl-lab echo" in out
        assert "Step size. (default: 0.5)" in out

    def test_help_keeps_no_line_breaks_of_docstrings_and_says_no_empty_defaults(self, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "120")
        out = call(capsys, echo, "--help")[1]
        assert "Bound, in a text that goes on on a second line." in out
        for nothing in ("None", "(default: )", "(default: False)"):
            assert nothing not in out

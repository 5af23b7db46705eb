"""The command lines: fields of dataclasses as options, errors in one line, exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, get_origin

import tyro

from rl_lab.runs.config import parse_pairs
from rl_lab.types import UsageError


def main(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command; turn what goes wrong into one line on stderr and an exit code."""
    try:
        code = command(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except Exception as error:
        import traceback

        cause = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {type(error).__name__}: {cause}\n", file=sys.stderr)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.exit(code)


def parse(kind: type, argv: Sequence[str], *, default: Any = None, description: str) -> Any:
    """Read a dataclass from the command line.

    Raises:
        UsageError: the parser's complaint as one line.
    """
    arguments: dict[str, Any] = {"description": description, "args": list(argv), "registry": _registry()}
    if default is not None:
        arguments["default"] = default
    if {"-h", "--help"} & set(argv):
        return tyro.cli(kind, **arguments)
    said = io.StringIO()
    with _wide_terminal(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return tyro.cli(kind, **arguments)
        except SystemExit:
            raise UsageError(_one_line(said.getvalue())) from None


@contextlib.contextmanager
def _wide_terminal() -> Iterator[None]:
    """Keep a complaint from being wrapped."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "1000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _one_line(box: str) -> str:
    """Take the message out of what tyro prints: a title, a rule, the message, a rule, the rest."""
    lines = [line.strip() for line in box.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("-")]
    first, last = (rules[0] + 1, rules[1]) if len(rules) > 1 else (0, len(lines))
    text = " ".join(line for line in lines[first:last] if line)
    text = re.sub(r"^Error parsing (run|agent|command): ", "", text)  # ours, from a check of the config
    hints = [
        line.split()[0] for line in lines[last:] if line[:3].strip("-")[:1].isalpha() and line[:2] == "--"
    ]
    return f"{text} (close: {', '.join(hints)})" if hints and text.startswith("Unrecognized") else text


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Teach tyro to read dicts as name=value words."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _pairs(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if get_origin(info.type) is not dict:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="NAME=VALUE",
            instance_from_str=parse_pairs,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=lambda value: [f"{k}={v}" for k, v in value.items()],
        )

    return registry


# train -----------------------------------------------------------------------------------------------


# compare ---------------------------------------------------------------------------------------------


# watch -----------------------------------------------------------------------------------------------

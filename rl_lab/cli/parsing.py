"""What the commands share: options from the fields of dataclasses, errors in one line, exit codes."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, get_origin

import tyro

from rl_lab.checks import close_names, whole_number
from rl_lab.cli.groups import Part, boxes, flat, with_texts
from rl_lab.cli.words import plain_words
from rl_lab.runs.config import parse_pairs
from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.files import reason_of
from rl_lab.types import Fault, OneLineWarning, UsageError

PROGRAM = "rl-lab"
NO_TYPE = re.compile(r"(?P<head>.*?): no type matching .* - <class '\w+'>: (?P<cause>.*)")
"""tyro's complaint about an option that may also be None; the last cause is that of the other type."""
NO_PARSE = re.compile(
    r"(?P<head>Error parsing \S+): .*Could not find valid parse for arguments: \[(?P<words>.*)\]"
)
"""tyro's complaint about a list of numbers, which names no type."""
HELP = ("-h", "--help", "--help-all")
BRIEF = (
    tyro.conf.DisallowNone,
)  # the short help names no None; `boxes` leaves --no-... out where it says nothing

REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EFBIG,
    errno.EIO,
)  # of a file system, no mistake of ours
INVALID_CHOICE = re.compile(
    r"invalid choice '(?P<value>.*)' for argument '(?P<option>.*)'\. Expected one of \((?P<allowed>.*)\)\."
)  # tyro's complaint about an option that takes one of several words


def main(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code; an error becomes one line on stderr and a code of its own."""
    try:
        with _warnings_in_a_line():
            code = command(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except (Fault, CheckpointError) as error:
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        code = 1
    except FloatingPointError as error:
        print(f"error: learning diverged: {error}", file=sys.stderr)
        code = 1
    except BrokenPipeError:
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except MemoryError as error:
        print(f"error: not enough memory{f': {error}' if str(error) else ''}", file=sys.stderr)
        code = 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in REFUSALS:
            print(f"error: {_refused(error)}", file=sys.stderr)
            sys.exit(_flushed(1))
        import traceback

        cause = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {type(error).__name__}: {cause}\n", file=sys.stderr)
        traceback.print_exc()
        code = 1
    sys.exit(_flushed(code))


@contextlib.contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Show what is to be known of environments and agents as one line, without the place in our source that says it."""
    before = warnings.formatwarning

    def formatted(message: Any, category: type[Warning], *place: Any) -> str:
        is_line = issubclass(category, OneLineWarning)
        return f"warning: {message}\n" if is_line else before(message, category, *place)

    warnings.formatwarning = formatted  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = before


def _flushed(code: int) -> int:
    """Hand what was printed to the system; return the exit code, 1 if it can't all be written (> /dev/full, say)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except OSError as error:
        print(f"error: standard output could not be written: {reason_of(error)}", file=sys.stderr)
    else:
        return code
    with contextlib.suppress(OSError, ValueError):  # else Python itself tries again at its end, and complains
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code or 1


def _refused(error: OSError) -> str:
    """Return what couldn't be written, or read, and why, in one line."""
    return f"{error.filename or 'a file or standard output'} could not be written: {reason_of(error)}"


def asks_for_help(argv: Sequence[str]) -> bool:
    """Return whether a command line asks for help of any kind."""
    return any(word in HELP for word in argv)


def parse(
    kind: type,
    argv: Sequence[str],
    *,
    program: str,
    about: str,
    default: Any = None,
    markers: Sequence[Any] = (),
    aliases: Mapping[str, str] | None = None,
) -> Any:
    """Read a dataclass from the command line.

    Args:
        program: what the user types, as the help names it.
        about: what stands above the options in the help.
        markers: tyro's, for all fields.
        aliases: other names of fields.

    Raises:
        UsageError: the parser's complaint as one line.
        SystemExit: after printing the help.
    """
    arguments: dict[str, Any] = {
        "prog": program,
        "description": about,
        "args": ["--help"] if asks_for_help(argv) else plain_words(argv, kind, aliases),
        "registry": reading_rules(),
        "config": markers,
    }
    if default is not None:
        arguments["default"] = default
    if asks_for_help(argv):
        if default is None:  # no boxes, which have their texts already
            kind, arguments["config"] = with_texts(kind), (tyro.conf.DisallowNone, *markers)
        return tyro.cli(kind, **arguments)
    said = io.StringIO()
    with _wide_terminal(), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            return tyro.cli(kind, **arguments)
        except SystemExit:
            raise UsageError(_one_line(said.getvalue())) from None


def parse_parts(parts: Sequence[Part], argv: Sequence[str], *, program: str, about: str) -> dict[str, Any]:
    """Read the fields of several dataclasses, grouped in the help, and return them as {name: value}.

    `--help` shows the common ones only, `--help-all` shows all.

    Raises:
        UsageError: the parser's complaint as one line.
        SystemExit: after printing the help.
    """
    only_common = asks_for_help(argv) and "--help-all" not in argv
    kind, default = boxes(parts, only_common=only_common)
    markers = BRIEF if only_common else ()
    aliases = {k: v for part in parts for k, v in getattr(part.default, "ALIASES", {}).items()}
    return flat(
        parse(kind, argv, program=program, about=about, default=default, markers=markers, aliases=aliases)
    )


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
    """Return the message out of what tyro prints: a title, a rule, the message, a rule, hints."""
    lines = [line.strip() for line in box.splitlines()]
    rules = [i for i, line in enumerate(lines) if line and not line.strip("-")]
    first, last = (rules[0] + 1, rules[1]) if len(rules) > 1 else (0, len(lines))
    text = " ".join(line for line in lines[first:last] if line)
    text = re.sub(r"^Error parsing \w+: ", "", text)  # the class whose check refused a value
    if (unread := NO_PARSE.fullmatch(text)) is not None:
        kind = re.search(r"\b(INT|FLOAT)\b", " ".join(lines[last:]))
        if kind is not None:
            return f"{unread['head']}: {unread['words']} must be {'whole ' * (kind[1] == 'INT')}numbers"
    if (several := NO_TYPE.fullmatch(text)) is not None:
        text = f"{several['head']}: {several['cause']}"
    if text == "Unrecognized options:":
        text = "Unrecognized options: '' (an empty word)"
    if (choice := INVALID_CHOICE.fullmatch(text)) is not None:
        return _unknown_choice(choice["option"], choice["value"], re.findall(r"'([^']*)'", choice["allowed"]))
    hints = [
        line.split()[0] for line in lines[last:] if line[:3].strip("-")[:1].isalpha() and line[:2] == "--"
    ]
    if not text.startswith("Unrecognized"):
        return text
    close = f"close: {', '.join(hints)}; " if hints else ""
    return f"{text} ({close}--help-all lists all options)"


def _unknown_choice(option: str, value: str, allowed: Sequence[str]) -> str:
    """Return the message for a word that isn't among those allowed, with the words that are close to it."""
    if "None" in allowed:  # which leaving the option out means too; tyro lists these in any order
        allowed = sorted(set(allowed) - {"None"})
    close = close_names(value, allowed)
    hint = f"close: {', '.join(close)}; " if close else ""
    return f"unknown {option} {value!r} ({hint}allowed: {', '.join(allowed)})"


def reading_rules() -> tyro.constructors.ConstructorRegistry:
    """Return the rules by which tyro reads dicts, as name=value words, and whole numbers, which may be 1e5."""
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

    @registry.primitive_rule
    def _whole(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole_number(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return registry

"""The pages and their code blocks, and how a block is run.

The blocks of a page run in order in one folder. What stands in a comment directly above a block says how:

    <!-- test: --total-steps 500 -->        added to each `rl-lab train` of the block that starts a run
    <!-- test: 100_000 -> 500 -->           replaced in the block, where it must stand
    <!-- test: prints 0\\.9\\d+ -->           what the block prints must match this pattern
    <!-- test: in the checkout -->          run in the repository instead of the page's folder
    <!-- test: in any order -->             the words of a text block may be printed in any order, but all and no others
    <!-- test: skip: CI runs it -->         not run, and why

A run that `rl-lab train` starts is evaluated once, on two episodes, and neither filmed nor drawn, unless the comment
says otherwise. A Python, TOML or YAML block whose first line is `# path/name` is written to that file; other Python
is run. A text block shows output: the last block that ran must have printed it, apart from its numbers and line breaks.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import tomllib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = ROOT / "scripts"
MARK = re.compile(r"<!-- test: (.*?) -->")
FENCE = re.compile(r"```(\S*)")
FILE = re.compile(r"# ([\w./-]+\.(?:py|toml|yaml))\s")
QUIET = "--eval-episodes 2 --eval-every-steps 1000000 --video-episodes 0 --no-pictures"
DATA = ("json", "html")  # shown, not run
NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int  # of its fence, from 1
    language: str
    text: str
    marks: tuple[str, ...]

    @property
    def skipped(self) -> str | None:
        """Why it isn't run; None if it is."""
        return next((mark.removeprefix("skip: ") for mark in self.marks if mark.startswith("skip: ")), None)

    def shortened(self) -> str:
        """Return the text with the replacements made. Raises AssertionError where there is nothing to replace."""
        text = self.text
        for old, arrow, new in (mark.partition(" -> ") for mark in self.marks):
            if arrow:
                assert old in text, f"{self}: {old!r} does not stand there"
                text = text.replace(old, new)
        return text

    def options(self) -> list[str]:
        """Return the options that are added to a command that starts a run; of two the later one counts."""
        added = [QUIET, *(mark for mark in self.marks if mark.startswith("--") and " -> " not in mark)]
        return [word for mark in added for word in shlex.split(mark)]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def name_of(page: Path) -> str:
    """Return a page's path within the repository."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page, those inside notes and lists included."""
    blocks, marks, opened = [], [], None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf8").splitlines(), 1):
        fence = FENCE.match(line.strip())
        if opened is None and fence:
            opened, lines = (number, fence[1]), []
        elif opened is not None and fence:
            text = textwrap.dedent("\n".join(lines)) + "\n"
            blocks.append(Block(page, *opened, text, tuple(marks)))
            marks, opened = [], None
        elif opened is not None:
            lines.append(line)
        elif line.strip():
            marks = marks + MARK.findall(line) if MARK.search(line) else []
    assert opened is None, f"{page}: a fence is left open"
    return blocks


def shows(block: Block, printed: str) -> bool:
    """Return whether a text block shows what was printed, whatever its numbers and line breaks."""
    if "in any order" in block.marks:
        return sorted(block.text.split()) == sorted(printed.split())
    words = [NUMBER.pattern.join(map(re.escape, NUMBER.split(word))) for word in block.text.split()]
    return re.search(r"\s+".join(words), printed) is not None


# How a block is run ----------------------------------------------------------------------------------


class Folder:
    """Where the blocks of one page run, with what they install."""

    def __init__(self, path: Path):
        self.path, self.site = path / "work", path / "site"
        self.path.mkdir()
        self.printed = ""  # by the block that ran last
        self.env = os.environ | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": os.pathsep.join([str(self.site), str(ROOT)]),
            "WANDB_MODE": "disabled",
            "PIP_TARGET": str(self.site),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say that it is off
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def run(self, block: Block) -> None:
        """Run a block, unless it says not to. Raises AssertionError with what it printed if it fails."""
        if block.skipped is not None:
            return
        text = block.shortened()
        if block.language in DATA:
            return
        if block.language == "text":
            assert shows(block, self.printed), f"{block} shows something else than\n{self.printed}"
            return
        if (named := FILE.match(text)) and block.language in ("python", "toml", "yaml"):
            file = self.path / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            return
        runs = {"sh": self._shell, "python": self._python, "toml": _toml, "yaml": _yaml}
        self.printed = runs[block.language](text, block)
        for mark in block.marks:
            if mark.startswith("prints "):
                wanted = mark.removeprefix("prints ")
                assert re.search(wanted, self.printed), f"{block} printed\n{self.printed}"

    def _python(self, text: str, block: Block) -> str:
        code = compile("\n" * block.line + text, str(block.page), "exec")
        return self._fork(lambda: exec(code, {"__name__": "__main__"}), block)

    def _shell(self, text: str, block: Block) -> str:
        return "".join(self._command(command, block) for command in commands_of(text))

    def _command(self, command: str, block: Block) -> str:
        words = shlex.split(command)
        if words[0] == "rl-lab" and not set(words) & set("|<>;&"):
            starts = words[1] == "train" and not {"--resume", "--help", "--help-all"} & set(words)
            return self._fork(lambda: rl_lab([*words, *(block.options() if starts else [])]), block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._cwd(block),
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {command}\nended with {done.returncode}\n{done.stdout}"
        return done.stdout

    def _cwd(self, block: Block) -> Path:
        return ROOT if "in the checkout" in block.marks else self.path

    def _fork(self, function: Callable[[], object], block: Block) -> str:
        code, printed = self.call(function, self._cwd(block))
        assert code == 0, f"{block}: ended with {code}\n{printed}"
        return printed

    def call(self, function: Callable[[], object], cwd: Path | None = None) -> tuple[int, str]:
        """Call a function in a fork of this process, which spares it the imports; return exit code and output."""
        with tempfile.TemporaryFile("w+", encoding="utf8") as output:
            sys.stdout.flush(), sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._become(function, cwd or self.path, output.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            output.seek(0)
            return code, output.read()

    def _become(self, function: Callable[[], object], cwd: Path, output: int) -> None:
        """Call the function as if it were a process of its own, and end."""
        code = 1
        try:
            os.dup2(output, 1), os.dup2(output, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(self.env)
            sys.path[:0] = [str(cwd), str(self.site)]
            function()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)


def commands_of(text: str) -> Iterator[str]:
    """Yield the commands of a shell block, without comments and continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield line.partition(" #")[0].strip() if " #" in line else line.strip()


IMPORTED_ONCE = """
torch._dynamo stable_baselines3 scipy.stats matplotlib.pyplot sklearn.metrics minari
rl_lab.cli.train rl_lab.training.launch rl_lab.evaluation.pictures rl_lab.evaluation.watch
rl_lab.agents.dqn rl_lab.agents.clone
"""


def import_once() -> None:
    """Import what most commands import, so that forks find it done."""
    for name in IMPORTED_ONCE.split():
        import_module(name)


def rl_lab(words: list[str]) -> None:
    """Call what the installed command calls."""
    sys.argv = words
    import_module("rl_lab.cli.commands").entry()


def _toml(text: str, block: Block) -> str:
    return str(tomllib.loads(text))


def _yaml(text: str, block: Block) -> str:
    return str(yaml.safe_load(text))

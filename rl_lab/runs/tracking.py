"""Mirrors a run directory to Weights & Biases, from a process of its own.

The run directory's own files are complete; W&B shows a copy. Training never imports wandb: it starts
`python -m rl_lab.runs.tracking RUN_DIR --mode MODE`, which follows `metrics.jsonl` until it reads on its
standard input that no more rows come, or until training is gone. Whatever happens to W&B happens in
that process, and costs training no more than one warning.

Each start is one W&B run, called a segment: `ID-0`, after a resume `ID-1`, and so on, all in one group. A
segment goes on where the last one that ended cleanly stopped; rows of one that didn't are sent again, so
that the segments together hold every row. `--rebuild` makes one whole run out of the local files, as
`rl-lab sync` does.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rl_lab.runs.scrubbing import scrub, without_login
from rl_lab.runs.wandb_settings import has_api_key

ENDINGS = ("finished", "stopped", "failed")  # of training; without a word of it, it was killed
KILLED = "killed"
CLOSE_SECONDS = 60.0  # how long training waits for the mirror at its end
QUIET_SECONDS = 2.0  # of that, before anything is said of it
LINGER_SECONDS = 180  # how long a mirror may outlive training that did not wait for it
WENT_OFFLINE = 3  # exit code of a mirror that failed and then wrote everything offline
MISHAP = "mirror: "  # begins the line of mirror.log that training repeats as its warning

logger = logging.getLogger(__name__)

# ---------------------------------------------------------------- what training calls


def start_mirror(run_dir: str | Path, mode: str) -> Mirror | NullMirror:
    """Start mirroring a run directory that has its config.json and, if it is resumed, was cut back.

    Online without an API key it is mirrored offline, with a warning at once rather than at the end of training.
    Never raises for what happens to the mirror; if it can't start, there is a warning.
    """
    if mode == "disabled":
        return NullMirror()
    run_dir = Path(run_dir).absolute()
    if mode == "online" and not has_api_key():
        _warn(run_dir, "No API key was found (wandb login stores one; mirrored offline instead)")
        mode = "offline"
    try:
        return Mirror(_start_process(run_dir, mode), run_dir)
    except OSError as error:
        _warn(run_dir, f"the mirror could not start ({error})")
        return NullMirror()


class NullMirror:
    """Mirrors nothing."""

    def close(
        self,
        ending: str = "failed",
        timeout_seconds: float = CLOSE_SECONDS,
        doing: Callable[[str], None] = lambda what: None,
    ) -> None:
        """Do nothing."""


class Mirror:
    """The process of a mirror, as training sees it."""

    def __init__(self, process: subprocess.Popen[bytes], run_dir: Path):
        self.process = process
        self._run_dir = run_dir
        self._closed = False

    def close(
        self,
        ending: str = "failed",
        timeout_seconds: float = CLOSE_SECONDS,
        doing: Callable[[str], None] = lambda what: None,
    ) -> None:
        """Tell the mirror that no more rows come, and wait for it; kill it when the time is over.

        Args:
            ending: how training ended, one of ENDINGS.
            doing: called with what is waited for, if that takes longer than QUIET_SECONDS.
        """
        if self._closed:
            return
        self._closed = True
        self._say_end(ending)
        try:
            code = self._wait(timeout_seconds, doing)
        except subprocess.TimeoutExpired:
            self.process.kill()  # wandb-core watches the mirror and ends with it
            self.process.wait()
            _warn(self._run_dir, f"the mirror was stopped: not done after {timeout_seconds:g} s")
        else:
            if code != 0:
                _warn(self._run_dir, _mishap(self._run_dir, code))

    def _wait(self, seconds: float, doing: Callable[[str], None]) -> int:
        """Return the exit code; raises TimeoutExpired."""
        quiet = min(QUIET_SECONDS, seconds)
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(quiet)
        doing(f"waiting up to {seconds:.0f} s for W&B")
        return self.process.wait(seconds - quiet)

    def _say_end(self, ending: str) -> None:
        # A line, not only the end of the pipe: forked environment workers may keep its other end open.
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(f"{ending}\n".encode())
        with suppress(OSError):
            self.process.stdin.close()


def _start_process(run_dir: Path, mode: str) -> subprocess.Popen[bytes]:
    folder = run_dir / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "mirror.log", "wb") as log:
        return subprocess.Popen(
            _command(run_dir, mode, _size(run_dir / "metrics.jsonl")),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for training; the mirror still has rows to write
            env=mirror_environment(run_dir, mode),
        )


def _mishap(run_dir: Path, code: int) -> str:
    """Return the reason that a mirror wrote to its log, or else how it ended."""
    lines: list[str] = []
    with suppress(OSError):
        lines = (run_dir / "wandb" / "mirror.log").read_text(errors="replace").splitlines()
    reasons = [line.removeprefix(MISHAP) for line in lines if line.startswith(MISHAP)]
    ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    reason = reasons[0] if reasons else f"the mirror {ending}"
    return f"{reason} (mirrored offline instead)" if code == WENT_OFFLINE else reason


def _warn(run_dir: Path, reason: str) -> None:
    logger.warning(
        "W&B: %s. The run's own files are complete; to mirror them again: rl-lab sync %s --rebuild",
        reason,
        run_dir,
    )


# ---------------------------------------------------------------- the environment


# What may pass is listed, since nobody can list every name that holds a secret.
_PASS = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_CONFIG_DIR"),
    *("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"),  # set by an agent of a sweep
)
_PASS_ONLINE = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)


def mirror_environment(run_dir: Path, mode: str) -> dict[str, str]:
    """Return the environment variables of a mirror: one thread, no prompts, and online W&B's secrets but no others."""
    names = _PASS + (_PASS_ONLINE if mode == "online" else ())
    environment = {name: os.environ[name] for name in names if name in os.environ}
    if "WANDB_BASE_URL" in environment:
        environment["WANDB_BASE_URL"] = without_login(environment["WANDB_BASE_URL"])
    folder = str(run_dir / "wandb")
    return environment | {
        "OMP_NUM_THREADS": "1",
        "GOMAXPROCS": "1",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CACHE_DIR": os.path.join(folder, "cache"),
        "WANDB_DATA_DIR": os.path.join(folder, "data"),
    }


# ---------------------------------------------------------------- the mirror's process


class Ending:
    """Waits for the end of training, and keeps the word for how it ended.

    Args:
        parent: the process id of training.
        word: how it ended, if that was read before.
    """

    def __init__(self, parent: int, word: str | None = None):
        self.word = word
        self._parent = parent

    def __call__(self, seconds: float) -> str | None:
        """Wait up to so many seconds; return how training ended once it has, or is gone."""
        if self.word is None:
            spoken = bool(select.select([sys.stdin], [], [], seconds)[0])
            if spoken or os.getppid() != self._parent:
                signal.alarm(LINGER_SECONDS)  # ends this process, whatever W&B is waiting for
                self.word = (_read_word() if spoken else "") or KILLED
        return self.word


def _read_word() -> str:
    """Return the line that training wrote; "" if its end of the pipe closed without one."""
    return os.read(sys.stdin.fileno(), 80).decode(errors="replace").partition("\n")[0].strip()


def _follow(run_dir: Path, mode: str, size: int, retry: bool, word: str | None) -> int:
    """Mirror while training runs; after a failure start again offline. Return the exit code."""
    from rl_lab.runs.wandb_mirror import mirror
    from rl_lab.runs.wandb_segments import next_segment

    ending = Ending(os.getppid(), word)
    try:
        _step_back()
        mirror(run_dir, mode, next_segment(run_dir, size), ending)
    except Exception as error:
        print(f"{MISHAP}{_one_line(error)}", flush=True)
        if retry:
            return 1
        # A new program in the same process: W&B's client does not recover from a dead service.
        told = ["--ended", ending.word] if ending.word else []
        command = [*_command(run_dir, "offline", size), *told, "--retry"]
        os.execve(sys.executable, command, mirror_environment(run_dir, "offline"))
    return WENT_OFFLINE if retry else 0


def _rebuild(run_dir: Path, mode: str) -> int:
    """Make one whole W&B run of a run directory's files, and set aside what it replaces. Return the exit code."""
    from rl_lab.runs.wandb_mirror import mirror
    from rl_lab.runs.wandb_segments import rebuilt_segment, set_aside

    environment = mirror_environment(run_dir, mode)
    os.environ.clear()
    os.environ.update(environment)
    try:
        segment = rebuilt_segment(run_dir)
        mirror(run_dir, mode, segment, lambda seconds: segment.state or "unfinished", following=False)
        set_aside(run_dir, segment.folder)
    except Exception as error:
        print(f"W&B: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def rebuild_command(run_dir: Path, mode: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a process that makes one whole W&B run of a run directory, and its environment."""
    run_dir = run_dir.absolute()
    return [*_command(run_dir, mode, 0), "--rebuild"], mirror_environment(run_dir, mode)


def _step_back() -> None:
    """Lower the priority of this process: training needs the cores more."""
    os.setpriority(os.PRIO_PROCESS, 0, max(10, os.getpriority(os.PRIO_PROCESS, 0)))


def _command(run_dir: Path, mode: str, size: int) -> list[str]:
    arguments = [str(run_dir), "--mode", mode, "--size", str(size)]
    return [sys.executable, "-P", "-m", "rl_lab.runs.tracking", *arguments]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _one_line(error: BaseException) -> str:
    return scrub(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def main(argv: list[str] | None = None) -> int:
    """Run the mirror of one run directory."""
    parser = argparse.ArgumentParser(
        prog="python -m rl_lab.runs.tracking", description=__doc__.split("\n")[0]
    )
    parser.add_argument("run_dir", type=Path, help="a run directory")
    parser.add_argument("--mode", choices=("offline", "online"), default="offline")
    parser.add_argument("--rebuild", action="store_true", help="make one whole run out of the local files")
    # What training itself passes: the bytes of metrics.jsonl at its start, how training ended if that is known
    # already, and that W&B failed before.
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--ended", choices=(*ENDINGS, KILLED), help=argparse.SUPPRESS)
    parser.add_argument("--retry", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    run_dir = arguments.run_dir.absolute()
    if not (run_dir / "config.json").exists():
        parser.error(f"RUN_DIR {str(arguments.run_dir)!r} has no config.json: it must be a run directory")
    if arguments.rebuild:
        return _rebuild(run_dir, arguments.mode)
    return _follow(run_dir, arguments.mode, arguments.size, arguments.retry, arguments.ended)


if __name__ == "__main__":
    sys.exit(main())

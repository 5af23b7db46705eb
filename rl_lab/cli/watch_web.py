"""The live page of `rl-lab watch --web`."""

from __future__ import annotations

import os
import secrets
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from rl_lab.checks import at_least
from rl_lab.cli.groups import Part
from rl_lab.cli.parsing import parse_parts
from rl_lab.types import UsageError

if TYPE_CHECKING:
    from rl_lab.watching.sources import Watched

ABOUT = """Watch trained agents play on a live page in the browser: play, pause, step, scrub, take over with the
keyboard, and see what the agent thinks. The server answers this machine alone, unless --host says otherwise."""
NEEDED = ("starlette", "uvicorn", "websockets")
WAIT_SECONDS = 1.0  # between two looks for a first checkpoint


@dataclass(frozen=True)
class WebOptions:
    """What the command takes."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "policy": ("run_dirs", "checkpoint", "best", "seed"),
        "page": ("web", "port", "host", "browser", "save_to"),
        "runless policy": ("env_id", "env_kwargs", "algo", "statistics", "trust_pickles"),
    }

    run_dirs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR [RUN_DIR]")]
    """Run directory to watch; two are shown side by side on the same seed. The words random and human, and a model.zip
    that SB3 saved, play in the environment of the run beside them, or of --env-id."""
    web: bool = False
    """Serve a live page."""
    port: int = 0
    """Port of the server; 0 for a free one."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own also asks for a token, which is part of the printed address."""
    seed: int | None = None
    """Seed of the episodes; by default the first run's, so that they are its evaluation episodes."""
    best: bool = False
    """Watch the checkpoint with the best evaluation instead of the last."""
    checkpoint: tuple[str, ...] = ()
    """Watch kept checkpoints: their environment steps, or the words last and best. One for all, or one for each; two
    of a single run are shown side by side."""
    save_to: str | None = None
    """Folder in which datasets of what you play are saved; by default RUN_DIR/played, or played without a run."""
    browser: bool = True
    """Open the page in a browser, where there is a display."""
    env_id: str | None = None
    """Environment id, needed where RUN_DIR isn't a run directory."""
    env_kwargs: tuple[str, ...] = ()
    """Its arguments, each name=value."""
    algo: str | None = None
    """Algorithm of a model.zip, such as dqn; by default as the file tells."""
    statistics: str | None = None
    """Statistics of a model.zip's observations, a file that VecNormalize.save wrote."""
    trust_pickles: bool = False
    """Read a model.zip and statistics although their pickles run whatever code their author put into them."""


def watch_web(argv: Sequence[str]) -> int:
    """Serve the live page until a signal comes; return the exit code.

    Raises:
        UsageError: a wrong option or value, no run there, a port that is used, or a package that is missing.
    """
    parts = [Part(WebOptions(tyro.MISSING), "options")]
    options = WebOptions(**parse_parts(parts, argv, program="rl-lab watch --web", about=ABOUT))
    require_consistent(options)
    require_installed()
    from rl_lab.watching.guard import Guard, is_loopback
    from rl_lab.watching.opening import live_page
    from rl_lab.watching.server import listen, serve

    listening = listen(options.host, options.port)
    try:
        port = listening.getsockname()[1]
        token = None if is_loopback(options.host) else secrets.token_urlsafe(24)
        page = live_page(_shown(options), Guard(port, token), options.seed, options.save_to)
        address = f"http://{_named(options.host)}:{port}/" + (f"?token={token}" if token else "")

        def started(server: Any) -> None:
            print(f"watching on {address} (Ctrl-C ends it)", flush=True)
            if page.note:
                print(page.note, flush=True)
            if options.browser and has_display():
                webbrowser.open(address)

        serve(page, listening, started)
    finally:
        listening.close()
    print("ended")
    return 0


def _shown(options: WebOptions) -> list[Watched]:
    """Return what is watched. Raises UsageError, as `watched_beside` does."""
    from rl_lab.watching.courtesy import give_way
    from rl_lab.watching.following import is_training

    if any(is_training(Path(name)) for name in options.run_dirs):
        give_way()  # before loading takes its time
    for name in options.run_dirs:
        _await_checkpoint(Path(name))
    from rl_lab.runs.config import parse_pairs
    from rl_lab.watching.beside import watched_beside
    from rl_lab.watching.sources import Environment, ModelFile

    environment = Environment(options.env_id, parse_pairs(options.env_kwargs), seed=options.seed or 0)
    has_environment = options.env_id is not None or bool(options.env_kwargs)
    statistics = None if options.statistics is None else Path(options.statistics)
    file = ModelFile(options.algo, statistics, options.trust_pickles)
    return watched_beside(
        options.run_dirs,
        ("best",) if options.best else options.checkpoint,
        environment if has_environment else None,
        None if file == ModelFile() else file,
    )


def _await_checkpoint(folder: Path) -> None:
    """Wait while a run trains that hasn't saved anything yet, and say so; another folder isn't waited for."""
    from rl_lab.training.loading import kept_steps
    from rl_lab.watching.following import is_training

    if is_training(folder) and not kept_steps(folder):
        print(f"waiting for the first checkpoint of {str(folder)!r} (Ctrl-C ends it)", flush=True)
        while is_training(folder) and not kept_steps(folder):
            time.sleep(WAIT_SECONDS)


def require_consistent(options: WebOptions) -> None:
    """Check what can be checked without reading anything.

    Raises:
        UsageError: a port or seed out of range, neither one policy nor two, or options of which one would be ignored.
    """
    at_least(options, 0, "port", "seed")
    if options.port > 65535:
        raise UsageError(f"port must be at most 65535, got {options.port}")
    if not 1 <= len(options.run_dirs) <= 2:
        raise UsageError(
            f"--web shows one run or two, got {len(options.run_dirs)} (allowed: 1 or 2 RUN_DIRs)"
        )
    if len(options.checkpoint) > 2:
        raise UsageError(
            f"--web shows two checkpoints at most, got {len(options.checkpoint)} (allowed: 1 or 2)"
        )
    if options.best and options.checkpoint:
        raise UsageError(
            f"--best is one checkpoint (allowed: without --checkpoint {' '.join(options.checkpoint)})"
        )


def require_installed() -> None:
    """Check that the packages of the page's server are there.

    Raises:
        UsageError: one is missing.
    """
    for name in NEEDED:
        if find_spec(name) is None:
            raise UsageError(
                f"--web needs {name}, which is missing (allowed: after pip install 'rl_lab[web]')"
            )


def has_display() -> bool:
    """Return whether a browser could show itself."""
    return os.name != "posix" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _named(host: str) -> str:
    """Return a host as it stands in an address; one that means every address of this machine by its name."""
    if host in ("0.0.0.0", "::"):
        import socket

        return socket.gethostname()
    return f"[{host}]" if ":" in host else host

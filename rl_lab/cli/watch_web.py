"""The live page of `rl-lab watch --web`."""

from __future__ import annotations

import os
import secrets
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import tyro

from rl_lab.checks import at_least
from rl_lab.cli.parsing import parse
from rl_lab.types import UsageError

ABOUT = """Watch trained agents play on a live page in the browser: play, pause, step, scrub, take over with the
keyboard, and see what the agent thinks. The server answers this machine alone, unless --host says otherwise."""
NEEDED = ("starlette", "uvicorn", "websockets")


@dataclass(frozen=True)
class WebOptions:
    """What the command takes."""

    run_dirs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR [RUN_DIR]")]
    """Run directory to watch; two are shown side by side on the same seed."""
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
    save_to: str | None = None
    """Folder in which datasets of what you play are saved; by default RUN_DIR/played."""
    browser: bool = True
    """Open the page in a browser, where there is a display."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a port or seed out of range, or neither one run nor two.
        """
        at_least(self, 0, "port", "seed")
        if self.port > 65535:
            raise UsageError(f"port must be at most 65535, got {self.port}")
        if not 1 <= len(self.run_dirs) <= 2:
            raise UsageError(
                f"--web shows one run or two, got {len(self.run_dirs)} (allowed: 1 or 2 RUN_DIRs)"
            )


def watch_web(argv: Sequence[str]) -> int:
    """Serve the live page until a signal comes; return the exit code.

    Raises:
        UsageError: a wrong option or value, no run there, a port that is used, or a package that is missing.
    """
    options: WebOptions = parse(WebOptions, argv, program="rl-lab watch", about=ABOUT)
    require_installed()
    from rl_lab.watching.guard import Guard, is_loopback
    from rl_lab.watching.opening import live_page
    from rl_lab.watching.server import listen, serve

    listening = listen(options.host, options.port)
    try:
        port = listening.getsockname()[1]
        token = None if is_loopback(options.host) else secrets.token_urlsafe(24)
        page = live_page(options.run_dirs, Guard(port, token), options.seed, options.best, options.save_to)
        address = f"http://{_named(options.host)}:{port}/" + (f"?token={token}" if token else "")

        def started(server: Any) -> None:
            print(f"watching on {address} (Ctrl-C ends it)", flush=True)
            if options.browser and has_display():
                webbrowser.open(address)

        serve(page, listening, started)
    finally:
        listening.close()
    print("ended")
    return 0


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

"""Serves the live page: its files, and one WebSocket for each browser that has it open."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.resources import files
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from rl_lab.types import UsageError
from rl_lab.watching.guard import HEADERS, Guard
from rl_lab.watching.messages import MAX_BYTES, Look, Malformed, parse
from rl_lab.watching.packets import Packer, plain_json
from rl_lab.watching.player import Carry, Player, carry_out
from rl_lab.watching.session import Session, View

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
SECONDS_TO_CLOSE = 2  # for which a browser may take to close its socket when the server ends


class Client:
    """A browser that is served the newest view, whenever it has taken the one before."""

    def __init__(self, socket: WebSocket):
        self.socket = socket
        self.news = asyncio.Event()
        self.looks = True  # as long as its page doesn't say that it is hidden
        self._packer = Packer()
        # One message at a time goes out, so that a client that doesn't read isn't read from.
        self._lock = asyncio.Lock()

    async def send_text(self, body: Mapping[str, Any]) -> None:
        """Send a JSON object."""
        async with self._lock:
            await self.socket.send_text(plain_json(body))

    async def send_view(self, view: View) -> None:
        """Send a view."""
        async with self._lock:
            await self.socket.send_bytes(self._packer.pack(view))


class Broadcast:
    """Hands views and notices from the session's thread to the clients of the event loop.

    Only the newest view is kept, and of each kind of notice the newest one: a client that is slow skips those between.
    """

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.view: View | None = None
        self.notices: dict[str, Mapping[str, Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Use the running event loop from now on."""
        self._loop = asyncio.get_running_loop()

    def show(self, view: View) -> None:
        """Make a view the newest; called from any thread."""
        self.view = view
        self.call(self._wake)

    def tell(self, notice: Mapping[str, Any]) -> None:
        """Send a notice to everybody, also to those who come later; called from any thread."""
        self.notices = {**self.notices, str(notice["type"]): notice}
        self.call(self._wake)

    def say(self, message: dict[str, Any]) -> None:
        """Send a message to those who are here now; called from any thread."""
        for client in tuple(self.clients):
            self.answer(client, message)

    def answer(self, client: Client, message: Mapping[str, Any]) -> None:
        """Send a message to one client; called from any thread."""
        self.call(lambda: asyncio.ensure_future(_quietly(client.send_text(message))))

    def is_seen(self) -> bool:
        """Return whether anybody looks; called from any thread."""
        return any(client.looks for client in tuple(self.clients))

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function in the event loop."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _wake(self) -> None:
        for client in self.clients:
            client.news.set()


class LivePage:
    """The application: the session, its player, and the routes.

    Args:
        hello: what a page is told first: the environment, the agents, names of actions and keys.
        carry: carries out commands.
        idle: see `Player`.
        on_failure: called with the error that ended the session, in the event loop.
    """

    def __init__(
        self,
        session: Session,
        guard: Guard,
        hello: Mapping[str, Any],
        carry: Carry = carry_out,
        idle: Callable[[Session], bool] = lambda session: False,
    ):
        self.guard, self.broadcast = guard, Broadcast()
        seen, say = self.broadcast.is_seen, self.broadcast.say
        self.player = Player(session, self.broadcast.show, self._ended, carry, idle, seen, say)
        self.error: Exception | None = None
        self.note = ""  # a line for whoever starts the server
        self.on_failure: Callable[[], None] = lambda: None
        self._hello = hello
        self.app = Starlette(
            routes=[
                Route("/", self._file),
                Route("/{name}", self._file),
                WebSocketRoute("/live", self._live),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.broadcast.attach()
        self.player.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.player.stop)

    def _ended(self, error: Exception | None) -> None:
        if error is None:
            return
        self.error = error
        self.broadcast.tell({"type": "failed", "text": f"The session failed: {_line(error)}"})
        self.broadcast.call(self.on_failure)

    # Files -----------------------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        """Answer with a file of the page."""
        asked = request.query_params.get("token")
        given = asked or request.cookies.get(self.guard.cookie)
        if refusal := self.guard.refuses(request.headers, given, is_socket=False):
            return PlainTextResponse(f"Refused: {refusal}\n", 403, HEADERS)
        name = request.path_params.get("name", "page.html")
        suffix = name[name.rfind(".") :]
        page = files("rl_lab.watching") / "page" / name
        if "/" in name or "\\" in name or suffix not in KINDS or not page.is_file():
            return PlainTextResponse("There is no such file.\n", 404, HEADERS)
        answer = Response(page.read_bytes(), media_type=KINDS[suffix], headers=HEADERS)
        if asked and self.guard.token:
            answer.set_cookie(self.guard.cookie, self.guard.token, httponly=True, samesite="strict")
        return answer

    # The socket ------------------------------------------------------------------------------------------

    async def _live(self, socket: WebSocket) -> None:
        """Serve one browser until it leaves."""
        given = socket.query_params.get("token") or socket.cookies.get(self.guard.cookie)
        if self.guard.refuses(socket.headers, given, is_socket=True):
            await socket.close(1008)  # before it was accepted: the browser sees 403
            return
        await socket.accept()
        client = Client(socket)
        sending = asyncio.create_task(self._send(client))
        try:
            await client.send_text(self._hello)
            self.broadcast.clients.add(client)
            client.news.set()
            while True:
                await self._receive(client)
        except (WebSocketDisconnect, RuntimeError):  # starlette raises the latter for a socket that is closed
            pass
        finally:
            self.broadcast.clients.discard(client)
            sending.cancel()
            if not self.broadcast.clients:
                self.player.ask(parse('{"type": "release"}'), lambda answer: None)  # no key is held by nobody

    async def _receive(self, client: Client) -> None:
        """Take one message, and answer at once if it means nothing."""
        message = await client.socket.receive()
        if message["type"] != "websocket.receive":
            raise WebSocketDisconnect(message.get("code", 1000))
        content = message.get("text")
        try:
            if content is None:
                raise Malformed("binary data (allowed: JSON as text)")
            command = parse(content)
        except Malformed as error:
            await client.send_text({"type": "error", "text": str(error)})
            return

        if isinstance(command, Look):
            client.looks = command.seen
            client.news.set()
            return
        self.player.ask(command, lambda answer: self.broadcast.answer(client, answer))

    async def _send(self, client: Client) -> None:
        """Send what is new, whenever the client has taken what was sent before."""
        told: dict[str, Mapping[str, Any]] = {}
        shown: View | None = None
        try:
            while True:
                await client.news.wait()
                client.news.clear()
                for kind, notice in self.broadcast.notices.items():
                    if told.get(kind) is not notice:
                        told[kind] = notice
                        await client.send_text(notice)
                if client.looks and (view := self.broadcast.view) is not None and view is not shown:
                    shown = view
                    await client.send_view(view)
        except (WebSocketDisconnect, RuntimeError):
            pass


async def _quietly(sending: Any) -> None:
    """Send, or not to somebody who has left."""
    with suppress(WebSocketDisconnect, RuntimeError):
        await sending


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (
        text if isinstance(error, RuntimeError | UsageError) and text else f"{type(error).__name__}: {text}"
    )


# Serving ------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 means a free one.

    Raises:
        UsageError: the address isn't this machine's, or the port is used or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r}: {getattr(error, 'strerror', None) or error}") from error
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(64)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(
                f"--host {host!r} is no address of this machine (allowed: one that is)"
            ) from error
        raise UsageError(
            f"--port {port} on {host}: {error.strerror} (allowed: another port, or none for a free one)"
        ) from error
    return listening


class _Server(uvicorn.Server):
    """Leaves signals to `_ended_by_signals`: uvicorn would raise them again at the end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """End the server at SIGINT and SIGTERM within the block, since that is how a viewer is meant to end."""
    try:
        before = {s: signal.signal(s, server.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread, where there are no signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(page: LivePage, listening: socket.socket, on_start: Callable[[uvicorn.Server], None]) -> None:
    """Serve a page until a signal comes or its session fails.

    Args:
        on_start: called before anything is served, with the server, which ends once `should_exit` is set.

    Raises:
        Exception: what ended the session.
    """
    config = uvicorn.Config(
        page.app,
        log_level="error",
        access_log=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=MAX_BYTES,
        ws_per_message_deflate=False,  # pictures are compressed already
        timeout_graceful_shutdown=SECONDS_TO_CLOSE,
        server_header=False,
    )
    server = _Server(config)

    def fail() -> None:
        asyncio.get_running_loop().call_later(0.3, setattr, server, "should_exit", True)  # it is said first

    page.on_failure = fail
    with _ended_by_signals(server):
        on_start(server)
        try:
            server.run(sockets=[listening])
        finally:
            page.player.stop()  # uvicorn doesn't say that it ends where a signal came while it began
    if page.error is not None:
        raise page.error

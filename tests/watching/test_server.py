"""The server of the live page: who is answered, what a wrong message does, slow and many clients, ends."""

from __future__ import annotations

import http.client
import json
import random
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from rl_lab.types import UsageError
from rl_lab.watching.guard import Guard, is_loopback
from rl_lab.watching.server import listen
from watched_games import FirstLegal, balancing, make_narrow, served, session_of

PATIENCE = 60  # seconds, since a machine may be busy


def opened(port, origin=None, path="live", **options):
    """Open the socket of a page."""
    return connect(f"ws://127.0.0.1:{port}/{path}", origin=origin, proxy=None, **options)


def got(port, path="/", **headers):
    """Ask for a file; return the status, the headers and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    out = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return out


def viewed(data: bytes) -> dict:
    """Return the JSON of a view, with `pictures` as bytes."""
    length = int.from_bytes(data[:4], "big")
    view, start = json.loads(data[4 : 4 + length]), 4 + length
    view["pictures"] = []
    for lane in view["lanes"]:
        view["pictures"].append(data[start : start + lane["picture"]["bytes"]])
        start += lane["picture"]["bytes"]
    assert start == len(data)
    return view


def received(socket, kind):
    """Return the next message of a kind: "view" for a binary one, otherwise the type of a text."""
    for _ in range(500):
        data = socket.recv(timeout=PATIENCE)
        body = viewed(data) if isinstance(data, bytes) else json.loads(data)
        if body["type"] == kind:
            return body
    raise AssertionError(kind)


def played(view) -> tuple[int, int]:
    """Return how far a view's game has come: its episode, and the steps of that."""
    return view["episode"], view["newest"]


@pytest.fixture(scope="module")
def live():
    """A page that is paused, and its port."""
    with served(session_of(balancing())) as (page, port):
        yield page, port


def test_the_page_brings_all_its_files_and_asks_for_nothing_elsewhere(live):
    _, port = live
    status, headers, body = got(port)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"http://" not in body
    assert b"https://" not in body
    for name in ("page.css", "main.js", "agent.js", "plot.js"):
        assert got(port, f"/{name}")[0] == 200
    for path in ("/../server.py", "/server.py", "/%2e%2e%2fserver.py", "/nothing.js", "/page.html/x"):
        assert got(port, path)[0] == 404


def test_a_foreign_origin_and_a_foreign_name_of_this_machine_are_refused(live):
    page, port = live
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{port + 1}",
        f"http://evil.example:{port}",
        "null",
    ):
        with pytest.raises(InvalidStatus) as refused:
            opened(port, origin)
        assert refused.value.response.status_code == 403
    assert got(port, Host=f"evil.example:{port}")[0] == 403
    with pytest.raises(InvalidStatus):
        opened(port, additional_headers={"X": "y"}, path="live?x", origin=f"http://evil.example:{port}")
    with opened(port, f"http://127.0.0.1:{port}") as socket:
        assert received(socket, "view")["position"] == 0
    assert page.player.is_alive()


def test_with_a_token_nothing_is_answered_without_it():
    with served(session_of(balancing()), token="secret") as (_, port):
        assert got(port)[0] == 403
        assert got(port, "/main.js")[0] == 403
        assert got(port, "/?token=wrong")[0] == 403
        status, headers, _ = got(port, "/?token=secret")
        assert status == 200
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert got(port, "/main.js", Cookie=cookie.split(";")[0])[0] == 200
        for path in ("live", "live?token=wrong"):
            with pytest.raises(InvalidStatus):
                opened(port, path=path)
        with opened(port, path="live?token=secret") as socket:
            assert received(socket, "hello")["env_id"] == "CartPole-v1"
        with pytest.raises(InvalidStatus):
            opened(port, "http://evil.example", path="live?token=secret")


def test_a_malformed_message_is_answered_with_an_error_and_changes_nothing(live):
    _, port = live
    with opened(port) as socket:
        before = received(socket, "view")
        for message in ("x", "[]", '{"type": "seek"}', b"\0\1", '{"type": "press", "action": 0}'):
            socket.send(message)
            error = received(socket, "error")
            assert set(error) == {"type", "text"}
    with opened(port) as socket:
        after = received(socket, "view")
    assert after == before


def test_a_thousand_random_messages_do_not_stop_the_server():
    draw = random.Random(0)
    with served(session_of(balancing())) as (page, port):
        sent = 0
        while sent < 1000:
            with opened(port, max_size=None, close_timeout=0.2) as socket:
                try:
                    for _ in range(min(250, 1000 - sent)):
                        sent += 1
                        socket.send(_random_message(draw))
                except ConnectionClosed:  # after a message that is too long
                    continue
        with opened(port) as socket:
            socket.send('{"type": "restart", "seed": 9}')
            while received(socket, "view")["seed"] != 9:
                pass
        assert page.player.is_alive()
        assert page.error is None


def _random_message(draw: random.Random) -> str | bytes:
    kinds = [
        "play",
        "pause",
        "step",
        "next",
        "seek",
        "take",
        "press",
        "release",
        "speed",
        "restart",
        "save",
        "past",
        "reasons",
        "look",
        "?",
    ]
    if draw.random() < 0.3:
        return draw.randbytes(draw.choice([0, 3, 50, 3000]))
    if draw.random() < 0.3:
        return "".join(map(chr, draw.choices(range(1, 0x2000), k=20)))
    fields = {
        draw.choice(["step", "agent", "action", "factor", "seed", "episode", "method", "seen"]): draw.choice(
            [0, 1, -1, 2.5, "best", None, True, ""]
        )
    }
    return json.dumps({"type": draw.choice(kinds), **fields})


def test_two_clients_see_the_same_session_and_a_slow_one_holds_up_nobody():
    session = session_of(balancing())
    with served(session) as (_, port), opened(port) as quick, opened(port, max_queue=1) as slow:
        received(slow, "hello")
        received(slow, "view")
        quick.send('{"type": "play"}')
        quick.send('{"type": "speed", "factor": 4}')
        positions = [received(quick, "view")["position"] for _ in range(100)]
        quick.send('{"type": "pause"}')
        while (last := received(quick, "view"))["playing"]:
            pass
        assert len(positions) == 100
        deadline = time.monotonic() + PATIENCE
        newest = None
        while newest is None or newest["playing"] or newest["factor"] != 4:  # it paused at that speed alone
            assert time.monotonic() < deadline
            newest = received(slow, "view")
        assert (newest["episode"], newest["position"]) == (last["episode"], last["position"])
        assert newest["pictures"] == last["pictures"]


def test_a_page_that_is_hidden_gets_no_views_and_where_all_are_nothing_is_played():
    session = session_of(balancing())
    with served(session) as (page, port), opened(port) as socket:
        received(socket, "view")
        assert page.player._is_seen()
        socket.send('{"type": "look", "seen": false}')
        socket.send('{"type": "play"}')
        socket.send('{"type": "seek", "step": 99}')  # is answered, so what came before it has been done
        assert received(socket, "error")["text"].startswith("step 99 wasn't played")
        assert not page.player._is_seen()
        with opened(port) as other:  # that somebody else looks is enough
            while received(other, "view")["newest"] < 3:
                pass
        socket.send('{"type": "look", "seen": true}')
        assert received(socket, "view")["newest"] >= 3  # nothing in between was sent


def test_without_a_page_the_game_waits():
    session = session_of(balancing())
    with served(session) as (page, port):
        with opened(port) as socket:
            socket.send('{"type": "play"}')
            while received(socket, "view")["newest"] < 3:
                pass
        deadline = time.monotonic() + PATIENCE
        while page.player._is_seen():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert session.playing
        with opened(port) as socket:
            first = played(received(socket, "view"))
            while played(received(socket, "view")) <= first:
                pass


def test_rows_that_a_client_missed_come_with_its_next_view():
    session = session_of(balancing())
    with served(session) as (_, port), opened(port) as socket:
        rows = list(received(socket, "view")["lanes"][0]["rows"])
        for _ in range(3):
            socket.send('{"type": "step"}')
        while True:
            view = received(socket, "view")
            assert view["lanes"][0]["from"] == len(rows)
            rows += view["lanes"][0]["rows"]
            if view["position"] == 3:
                break
        assert [row[2] for row in rows] == [0.0, 1.0, 2.0, 3.0]
        assert [tuple(row) for row in rows] == [tuple(row) for row in session.agents[0].track.rows]


def test_an_environment_that_fails_is_told_to_the_page_and_ends_the_server():
    session = session_of(balancing())

    def broken(action):
        raise OSError("the joystick is gone")

    session.agents[0].track.lane.envs.env.env.step = broken
    with served(session) as (page, port), opened(port) as socket:
        received(socket, "view")
        socket.send('{"type": "step"}')
        assert "the joystick is gone" in received(socket, "failed")["text"]
        with pytest.raises(ConnectionClosed):
            received(socket, "nothing more")
        page.end()
        assert "the joystick is gone" in str(page.errors[0])


def test_an_illegal_key_is_answered_in_a_line_and_the_session_goes_on():
    session = session_of(FirstLegal(), make=make_narrow, names=())
    with served(session) as (page, port), opened(port) as socket:
        received(socket, "view")
        for message in ({"type": "take", "agent": 0}, {"type": "press", "action": 2}):
            socket.send(json.dumps(message))
        assert received(socket, "error")["text"] == "action 2 is illegal here (allowed: 1, 3)"
        for message in ({"type": "press", "action": 3}, {"type": "step"}):
            socket.send(json.dumps(message))
        while (view := received(socket, "view"))["position"] == 0:
            assert view["illegal"] in ([], [2])
        assert view["illegal"] == [3]
        assert page.player.is_alive()


def test_a_port_that_is_used_is_refused_in_a_line():
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    with pytest.raises(UsageError, match=rf"--port {port} on 127.0.0.1: .*in use \(allowed: another port"):
        listen("127.0.0.1", port)
    listening.close()
    with pytest.raises(UsageError, match=r"--host '192.0.2.1' is no address of this machine"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "loops"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False),
     ("10.0.0.1", False), ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_only_this_machines_own_addresses_are_loopback(host, loops):
    assert is_loopback(host) is loops


def test_a_guard_names_what_it_refuses():
    guard = Guard(8000)
    headers = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}
    assert guard.refuses(headers, None, is_socket=True) is None
    assert guard.refuses({"host": "[::1]:8000"}, None, is_socket=True) is None
    assert "host 'a:8000'" in guard.refuses({"host": "a:8000"}, None, is_socket=False)
    assert "host '127.0.0.1:1'" in guard.refuses({"host": "127.0.0.1:1"}, None, is_socket=False)
    assert "origin 'http://b'" in guard.refuses(headers | {"origin": "http://b"}, None, is_socket=True)
    assert Guard(8000, "é").refuses(headers, "e", is_socket=True) is not None


def test_a_guard_takes_a_name_without_a_port_for_port_80_alone():
    """Browsers leave out :80 in Host and Origin."""
    for name in ("localhost", "127.0.0.1", "[::1]"):
        headers = {"host": name, "origin": f"http://{name}"}
        assert Guard(80).refuses(headers, None, is_socket=True) is None
        assert Guard(80).refuses({"host": f"{name}:80"}, None, is_socket=False) is None
        assert Guard(80, "secret").refuses(headers, "secret", is_socket=True) is None
        assert "host" in Guard(8000).refuses(headers, None, is_socket=False)
        assert "origin" in Guard(80).refuses(headers | {"origin": "http://b"}, None, is_socket=True)
    for host in ("", "b", "b:80", "::1", "[::1", "localhost:", "localhost:80:80", "localhost:81"):
        assert "allowed: this machine's own address with port 80" in Guard(80).refuses(
            {"host": host}, None, is_socket=False
        )

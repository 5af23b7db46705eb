"""The live page: frames a second that arrive at a client, and the memory that a long session takes."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psutil
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from rl_lab.environments.make import make_env
from rl_lab.policies import ValuePolicy
from rl_lab.types import Array, Obs, State
from rl_lab.watching.guard import Guard
from rl_lab.watching.lane import Lane
from rl_lab.watching.server import LivePage, listen, serve
from rl_lab.watching.session import Session, agent_of
from rl_lab.watching.thoughts import Thoughts, facts_of

FRAMES = 600  # whose rate is measured, after a warm-up
LEAST_RATE = 50.0  # frames a second
LONG_FRAMES, WARM_FRAMES = (
    10_000,
    2_000,
)  # played as fast as can be; memory is compared with that after the warm-up
MOST_GROWTH_MB = 20.0


def viewer() -> list[dict[str, Any]]:
    """Return rows of results: the rate of CartPole's frames end to end, and how memory grows over 10,000 of them."""
    rate = _rate()
    grown = _growth_mb()
    print(
        f"CartPole-v1 on the live page: {rate:.1f} frames a second arrive (at least {LEAST_RATE:g})",
        flush=True,
    )
    print(f"memory over {LONG_FRAMES} frames: {grown:+.1f} MB (at most {MOST_GROWTH_MB:g})", flush=True)
    return [
        _row(
            "frames of CartPole-v1 a second, rendered, encoded, sent and decoded",
            "frames/s",
            rate,
            LEAST_RATE,
            rate / LEAST_RATE,
        ),
        _row(
            f"memory that grows over {LONG_FRAMES} frames",
            "MB",
            grown,
            MOST_GROWTH_MB,
            MOST_GROWTH_MB / max(grown, 1e-3),
        ),
    ]


def _row(work: str, unit: str, ours: float, bound: float, ratio: float) -> dict[str, Any]:
    return {"work": work, "peer": "bound", "unit": unit, "ours": ours, "theirs": bound, "ratio": ratio}


def _rate() -> float:
    """Return how many frames a second a client gets and decodes, at the largest speed that all frames are shown at."""
    with _client(factor=60 / 50) as client:
        for _ in range(60):
            _picture(client)
        begun = time.perf_counter()
        for _ in range(FRAMES):
            _picture(client)
        return FRAMES / (time.perf_counter() - begun)


def _growth_mb() -> float:
    """Return by how much memory grows while a session plays so many frames, in MB."""
    session = _session()
    process = psutil.Process()
    before = 0
    for frame in range(WARM_FRAMES + LONG_FRAMES):
        if frame == WARM_FRAMES:
            before = process.memory_info().rss
        session.advance()
        session.view()
    grown = process.memory_info().rss - before
    session.close()
    return grown / 2**20


def _session() -> Session:
    def values(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        lean = obs[:, 2] + 0.5 * obs[:, 3]
        return np.stack([-lean, lean], axis=1).astype(np.float64), state

    def make() -> Any:
        return make_env("CartPole-v1", render_mode="rgb_array")

    env = make()
    thoughts = Thoughts(facts_of(env))
    env.close()
    lane = Lane(ValuePolicy(values, 2), make, thoughts)
    return Session([agent_of("balancing", lane, thoughts.facts.action_names)], seed=0, fps=50.0)


@contextmanager
def _client(factor: float) -> Iterator[ClientConnection]:
    """Serve a session that plays at a multiple of CartPole's 50 steps a second; yield a client."""
    session = _session()
    session.set_speed(factor)
    session.play()
    listening = listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    page = LivePage(session, Guard(port), {"type": "hello"})
    servers: list[Any] = []
    started = threading.Event()

    def start(server: Any) -> None:
        servers.append(server)
        started.set()

    thread = threading.Thread(target=serve, args=(page, listening, start))
    thread.start()
    started.wait()
    try:
        with connect(f"ws://127.0.0.1:{port}/live", max_size=None, proxy=None) as client:
            yield client
    finally:
        servers[0].should_exit = True
        thread.join()
        listening.close()


def _picture(client: ClientConnection) -> None:
    """Wait for the next view and decode its picture, as a browser does."""
    data = client.recv()
    while isinstance(data, str):
        data = client.recv()
    length = int.from_bytes(data[:4], "big")
    view = json.loads(data[4 : 4 + length])
    start = 4 + length
    Image.open(io.BytesIO(data[start : start + view["lanes"][0]["picture"]["bytes"]])).load()

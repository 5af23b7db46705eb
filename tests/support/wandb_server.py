"""Stands in for a W&B server: answers what W&B's client asks of it, and keeps all that it received."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Request:
    """One request of a client."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    @property
    def query(self) -> dict[str, Any]:
        """The GraphQL request; {} if it is none."""
        return json.loads(self.body) if self.path.startswith("/graphql") else {}


@dataclass
class Server:
    """A server and what it received."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)  # for an agent of a sweep, one a heartbeat
    sweep: dict[str, Any] = field(default_factory=dict)  # the configuration of the sweep

    def received(self) -> str:
        """All that came in but the login, which is W&B's own."""
        told = [
            f"{r.method} {r.path} { {k: v for k, v in r.headers.items() if k.lower() != 'authorization'} } {r.body}"
            for r in self.requests
        ]
        return "\n".join(told)

    def upserted(self) -> list[dict[str, Any]]:
        """The variables of each request that made or changed a run."""
        return [r.query["variables"] for r in self.requests if "upsertBucket" in r.query.get("query", "")]

    def streamed(self) -> list[dict[str, Any]]:
        """The bodies of the file streams: rows, summary, how the run ended."""
        return [json.loads(r.body) for r in self.requests if r.path.endswith("/file_stream")]

    def history(self) -> list[dict[str, Any]]:
        """The rows that came, in order."""
        files = [body.get("files", {}).get("wandb-history.jsonl") for body in self.streamed()]
        return [json.loads(line) for file in files if file for line in file["content"]]


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that hung up."""


@contextmanager
def standing_in() -> Iterator[Server]:
    """Serve on a free port of this machine for the length of a `with` block."""
    server = Server()
    http = _Quiet(("127.0.0.1", 0), _handler(server))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                data = gzip.decompress(data)
            request = Request(self.command, self.path, dict(self.headers), data.decode(errors="replace"))
            server.requests.append(request)
            answer = json.dumps(_answer_to(server, request)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _answer

    return Handler


def _answer_to(server: Server, request: Request) -> dict[str, Any]:
    query = request.query.get("query", "")
    variables = request.query.get("variables") or {}
    for word, answer in _ANSWERS.items():
        if word in query:
            return {"data": answer(server, variables)}
    return {"data": {}} if query else {"exitcode": None, "limits": {}}


def _run(server: Server, v: dict[str, Any]) -> dict[str, Any]:
    project = {
        "id": "p",
        "name": v.get("project") or "project",
        "entity": {"id": "e", "name": v.get("entity") or "team"},
    }
    bucket = {
        "id": "bucket-id",
        "name": v.get("name"),
        "displayName": v.get("displayName"),
        "config": v.get("config") or "{}",
        "sweepName": v.get("sweep"),
        "project": project,
        "historyLineCount": 0,
    }
    return {"upsertBucket": {"bucket": bucket, "inserted": True}}


def _viewer(server: Server, v: dict[str, Any]) -> dict[str, Any]:
    return {
        "viewer": {
            "id": "u",
            "entity": "team",
            "username": "user",
            "flags": "{}",
            "teams": {"edges": []},
            "name": "user",
        },
        "serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "features": []},
    }


def _heartbeat(server: Server, v: dict[str, Any]) -> dict[str, Any]:
    commands = [server.commands.pop(0)] if server.commands else []
    return {"agentHeartbeat": {"agent": {"id": "agent-id"}, "commands": json.dumps(commands)}}


def _sweep(server: Server, v: dict[str, Any]) -> dict[str, Any]:
    sweep = {"id": "sweep-id", "name": v.get("sweep"), "state": "RUNNING", "config": json.dumps(server.sweep)}
    return {"project": {"sweep": sweep | {"runs": {"edges": []}}}}


_ANSWERS: dict[str, Callable[[Server, dict[str, Any]], dict[str, Any]]] = {
    "upsertBucket": _run,
    "agentHeartbeat": _heartbeat,
    "SweepWithRuns": _sweep,
    "createAgent": lambda s, v: {"createAgent": {"agent": {"id": "agent-id"}}},
    "RunResumeStatus": lambda s, v: {
        "model": {"id": "p", "name": "x", "entity": {"id": "e", "name": "team"}, "bucket": None}
    },
    "createRunFiles": lambda s, v: {
        "createRunFiles": {
            "runID": "bucket-id",
            "uploadHeaders": [],
            "files": [{"name": name, "uploadUrl": f"{s.url}/upload/{name}"} for name in v.get("files", [])],
        }
    },
    "viewer": _viewer,
}

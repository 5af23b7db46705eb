"""Who may talk to the page's server: pages of its own address, and beyond this machine whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}

HTTP_PORT = "80"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own address, which no other machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(host: str) -> tuple[str, str]:
    """Return the name and the port that a Host header tells; browsers leave out port 80."""
    found = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::([0-9]+))?", host)
    return ("", "") if found is None else (found[1].strip("[]"), found[2] or HTTP_PORT)


@dataclass(frozen=True)
class Guard:
    """Decides about requests.

    Attributes:
        port: of the server.
        token: what requests must bring; None on loopback, where the name that was asked for is checked instead, so that
            a foreign page can't reach the server under a name that it had resolved to this machine.
    """

    port: int
    token: str | None = None

    @property
    def cookie(self) -> str:
        """The name of the cookie that holds the token, another for each port."""
        return f"rl_lab_watch_{self.port}"

    def refuses(self, headers: Mapping[str, str], given: str | None, *, is_socket: bool) -> str | None:
        """Return why a request is refused, in a line, or None if it isn't.

        Args:
            headers: of the request, with names in lower case.
            given: the token that came with it, in its address or a cookie.
            is_socket: a WebSocket is asked for, which browsers open across origins.
        """
        host = headers.get("host", "")
        if self.token is None:
            name, port = _parts(host)
            if not is_loopback(name) or port != str(self.port):
                return f"host {host[:60]!r} (allowed: this machine's own address with port {self.port})"
        elif given is None or not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the token is missing or wrong (allowed: the address that the server printed)"
        origin = headers.get("origin")
        if is_socket and origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return f"origin {origin[:60]!r} (allowed: the server's own page)"
        return None

"""A live page that is open in a browser."""

from __future__ import annotations

import time

PATIENCE = 60  # seconds, since a machine may be busy


class Tab:
    """A page that is open, and what its console said and requested."""

    def __init__(self, browser, port: int, width: int = 1280, scheme: str = "light"):
        self.said: list[str] = []
        self.requests: list[str] = []
        self.port = port
        self.tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.tab.set_default_timeout(1000 * PATIENCE)
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(f"http://127.0.0.1:{port}/")
        self.tab.wait_for_selector("html[data-ready]", state="attached")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tab.close()
        assert self.said == []
        own = (f"http://127.0.0.1:{self.port}/", f"ws://127.0.0.1:{self.port}/", "blob:", "data:")
        assert [url for url in self.requests if not url.startswith(own)] == []

    def until(self, script: str) -> None:
        """Wait until a script says true; the page's policy lets playwright's own way evaluate nothing."""
        deadline = time.monotonic() + PATIENCE
        while not self.tab.evaluate(script):
            assert time.monotonic() < deadline, script
            self.tab.wait_for_timeout(20)

    def shows_step(self, step: int) -> None:
        """Wait until a step is shown."""
        self.tab.wait_for_selector(f".agent[data-step='{step}']")

    def says(self, selector: str, text: str) -> None:
        """Wait until an element has a text."""
        self.until(f"document.querySelector({selector!r}).textContent == {text!r}")

    def bars(self) -> tuple[list[float], int]:
        """Return the numbers of the bars, and which is marked as chosen."""
        script = "rows => [rows.map(row => Number(row.dataset.value)), rows.findIndex(row => row.matches('.chosen'))]"
        values, chosen = self.tab.locator(".agent .bars li").evaluate_all(script)
        return values, chosen

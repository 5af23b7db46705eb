"""The browser in which pages are opened."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


def needs_browser(test):
    """Skip a test without a browser, except in CI: there it fails, since nobody reads what was skipped."""
    missing = BROWSER is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"no browser on this machine (any of {', '.join(NAMES)})")(test)


@contextmanager
def running_browser():
    """Start the browser; each page that it opens shares nothing with others."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"], timeout=120_000)
        try:
            yield browser
        finally:
            browser.close()

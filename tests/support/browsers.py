"""The browser in which pages are opened."""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


def needs_browser(test):
    """Skip a test without a browser, except in CI: there it fails, since nobody reads what was skipped."""
    missing = BROWSER is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"no browser on this machine (any of {', '.join(NAMES)})")(test)

"""The versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import pytest

from rl_lab.storage import versions as module
from rl_lab.storage.versions import versions


@pytest.fixture(autouse=True)
def nothing_remembered():
    module._version.cache_clear()
    yield
    module._version.cache_clear()


def test_names_what_is_installed():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == version("torch")
    assert found["rl_lab"] == version("rl_lab")


def test_leaves_out_what_is_not(monkeypatch):
    def absent(name):
        if name == "scipy":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(module, "version", absent)
    assert set(versions()) == {"python", *module.PACKAGES} - {"scipy"}


def test_is_the_callers_own_to_change():
    versions()["torch"] = "none"
    assert versions()["torch"] == version("torch")

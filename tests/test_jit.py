"""Compiling plain loops."""

from __future__ import annotations

import pytest

from rl_lab.jit import compile_kernel


def test_without_a_folder_for_the_cache_a_kernel_still_compiles(monkeypatch):
    import numba

    real = numba.njit

    def without_cache(cache=False, **fields):
        if cache:
            raise RuntimeError("no locator available")
        return real(**fields)

    monkeypatch.setattr(numba, "njit", without_cache)
    with pytest.warns(UserWarning, match="compiled anew"):
        assert compile_kernel(lambda x: x + 1)(1) == 2

"""Compiling plain loops."""

from __future__ import annotations

import importlib.util
import os
import warnings

import pytest

from rl_lab.jit import compile_kernel, is_compiled


def test_without_a_folder_for_the_cache_a_kernel_still_compiles(monkeypatch):
    import numba

    real = numba.njit

    def without_cache(*functions, cache=False, **fields):
        if cache:
            raise RuntimeError("no locator available")
        return real(*functions, **fields)

    monkeypatch.setattr(numba, "njit", without_cache)
    with pytest.warns(UserWarning, match="compiled anew"):
        assert compile_kernel(lambda x: x + 1)(1) == 2


@pytest.fixture
def source(tmp_path):
    """A function in a module of its own, whose cache would lie beside it."""
    return write_module(tmp_path, "plain", "def add_one(x):\n    return x + 1\n").add_one


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_cache_beside_the_source_that_others_may_write_to_is_not_used(source, tmp_path, monkeypatch, mode):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")  # as it is where numba's variable isn't set
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__").chmod(mode)
    require_cached(source, tmp_path / "__pycache__", cached=mode == 0o700)


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_nor_one_that_numbas_variable_names(source, tmp_path, monkeypatch, mode):
    import numba

    folder = tmp_path / "named"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    require_cached(source, folder, cached=mode == 0o700)


def require_cached(source, folder, *, cached: bool) -> None:
    """Compile, and check whether that left something in the cache, and whether a line said so if it didn't."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # of what other tests left to the garbage collector
        assert compile_kernel(source)(1) == 2
    assert (list(folder.rglob("*.nbi")) != []) == cached
    lines = [str(w.message) for w in said]
    assert len(lines) == (0 if cached else 1)
    assert all("add_one is compiled anew by each process" in line for line in lines)
    assert all("can be written by other users" in line for line in lines)


def test_what_was_compiled_before_a_called_module_changed_is_compiled_again(tmp_path, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    called = write_module(tmp_path, "called", "def one():\n    return 1\n")
    caller = write_module(tmp_path, "caller", "def add(x):\n    return x + 1\n")
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__").chmod(0o700)
    compile_kernel(caller.add, [called])(1)
    assert compile_kernel(caller.add, [called]).stats.cache_path
    (index,) = (tmp_path / "__pycache__").glob("caller.add-*.nbi")
    compile_kernel(caller.add, [called])
    assert index.exists()  # nothing has changed
    later = index.stat().st_mtime + 10
    os.utime(tmp_path / "called.py", (later, later))
    compile_kernel(caller.add, [called])
    assert not index.exists()


def test_a_kernel_is_compiled_once_it_was_called_or_lies_on_the_disk(source, tmp_path, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__").chmod(0o700)
    kernel = compile_kernel(source)
    assert not is_compiled(kernel)
    kernel(1)
    assert is_compiled(kernel)
    assert is_compiled(compile_kernel(source))
    later = (tmp_path / "plain.py").stat().st_mtime + 10
    os.utime(tmp_path / "plain.py", (later, later))
    assert not is_compiled(compile_kernel(source))


def write_module(folder, name: str, text: str):
    """Write a module into a folder and import it."""
    (folder / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

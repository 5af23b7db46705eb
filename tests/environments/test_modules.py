"""Modules that a user names are found in the working folder and beside the script, and where they aren't is said."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType

import pytest

from rl_lab.environments import modules
from rl_lab.environments.make import make_env
from rl_lab.environments.modules import SCRIPT_FOLDER, script_folder, searched_folders
from rl_lab.studies import running
from rl_lab.types import UsageError

SCRIPT = """
from rl_lab.environments.make import make_env
print("<Same<" in str(make_env("CartPole-v1", wrappers=["beside:Same"])))
"""
BESIDE = "import gymnasium\n\nclass Same(gymnasium.Wrapper):\n    pass\n"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The working folder, and that of a script which is another one."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (there / "script.py").write_text(SCRIPT)
    (there / "beside.py").write_text(BESIDE)
    monkeypatch.chdir(here)
    monkeypatch.delenv(SCRIPT_FOLDER, raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield here, there
    sys.modules.pop("beside", None)


def main_of(file, spec=None):
    module = ModuleType("__main__")
    module.__spec__ = spec
    if file is not None:
        module.__file__ = str(file)
    return module


def test_a_wrapper_beside_the_script_is_found_from_another_folder(folders):
    _, there = folders
    # -P keeps Python itself from looking there
    done = subprocess.run(
        [sys.executable, "-P", str(there / "script.py")], capture_output=True, text=True, check=False,
        env={k: v for k, v in os.environ.items() if k != SCRIPT_FOLDER},
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    ("main", "found"),
    [
        (lambda there: main_of(there / "script.py"), True),
        (lambda there: main_of(there / "rl-lab"), False),  # an installed command
        (lambda there: main_of(there / "__main__.py", spec=object()), False),  # python -m
        (lambda there: main_of(None), False),  # a notebook, python -c
    ],
)
def test_only_the_folder_of_a_script_is_searched(folders, monkeypatch, main, found):
    here, there = folders
    monkeypatch.setitem(sys.modules, "__main__", main(there))
    assert script_folder() == (str(there) if found else None)
    assert searched_folders() == [str(here), str(there)][: 1 + found]


def test_a_script_in_the_working_folder_makes_it_one_folder(folders, monkeypatch):
    here, _ = folders
    monkeypatch.setitem(sys.modules, "__main__", main_of(here / "script.py"))
    assert searched_folders() == [str(here)]


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("wrapper 'absent:X'", {"env_id": "CartPole-v1", "wrappers": ["absent:X"]}),
        ("environment 'absent:X-v0'", {"env_id": "absent:X-v0"}),
    ],
)
def test_what_is_not_there_is_named_with_where_it_was_looked_for(folders, monkeypatch, what, given):
    here, there = folders
    monkeypatch.setitem(sys.modules, "__main__", main_of(there / "script.py"))
    with pytest.raises(UsageError) as refused:
        make_env(**given)
    assert str(refused.value) == (
        f"{what}: module 'absent' can't be imported: ModuleNotFoundError: No module named 'absent'"
        f" (looked for among the installed packages and in {here} and {there})"
    )


def test_a_module_that_lacks_another_is_not_said_to_be_missing(folders):
    here, _ = folders
    (here / "lacking.py").write_text("import absent")
    with pytest.raises(UsageError, match=r"No module named 'absent'$"):
        make_env("CartPole-v1", wrappers=["lacking:X"])


def test_a_study_tells_its_workers_where_the_script_lies(folders, monkeypatch):
    _, there = folders
    started = []
    monkeypatch.setattr(running.subprocess, "Popen", lambda words, env, **more: started.append(env))
    task = running.Task("random", {"env_id": "CartPole-v1", "seed": 0, "run_dir": "run"})
    for main in (main_of(there / "script.py"), main_of(there / "rl-lab")):
        monkeypatch.setitem(sys.modules, "__main__", main)
        running._start_worker(task, 1)
    assert [env.get(SCRIPT_FOLDER) for env in started] == [str(there), None]
    monkeypatch.setenv(SCRIPT_FOLDER, str(there))
    assert modules.import_here("beside", "wrapper").Same

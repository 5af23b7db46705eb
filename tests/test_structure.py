"""The structure of the source: which way imports run, how long files are, what loading never calls, what raises."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "stable_baselines3", "wandb", "scipy.stats", "scipy.optimize", "matplotlib")
MAX_LINES = 400


def sources(*packages: str) -> list[Path]:
    return [p for package in packages for p in sorted((ROOT / package).rglob("*.py"))]


def imported(source: str) -> set[str]:
    """Return the absolute names that a module imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__", "find_spec"}:
            names |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return names


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class TestImports:
    @pytest.mark.parametrize("folder", ["rl_lab", "agents", "envs", "scripts", "tests"])
    def test_agents_and_environments_are_imported_beneath_rl_lab(self, folder):
        found = {
            (str(path.relative_to(ROOT)), name)
            for path in sources(folder)
            for name in imported(path.read_text())
        }
        assert {(path, name) for path, name in found if name.split(".")[0] in ("agents", "envs")} == set()

    def test_sees_imports_of_every_kind(self):
        source = (
            "import a.b\nfrom c import d\nfrom .e import f\nfrom .. import g\n"
            "def late():\n    from h import i\n    import_module('j.k')\n"
        )
        assert imported(source) == {"a.b", "c.d", "h.i", "j.k"}


# What is planted in a copy, and the contracts that it breaks
PLANTED = {
    "nothing": ({}, []),
    "a circle that only type checkers see": (
        {
            "nn/cores.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rl_lab.nn import layers",
            "nn/layers.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rl_lab.nn import cores",
        },
        ["No circles, at any depth"],
    ),
    "a late import against the order": (
        {"schedules.py": "def late():\n    from rl_lab.mdp import kernels"},
        ["Packages import one way"],
    ),
}


class TestContracts:
    @pytest.mark.parametrize("what", PLANTED)
    def test_are_kept_and_notice_what_is_planted(self, what, tmp_path):
        planted, broken = PLANTED[what]
        shutil.copy(ROOT / ".importlinter", tmp_path)
        for package in ("rl_lab", "agents", "envs"):
            ignored = shutil.ignore_patterns("__pycache__")  # where files come and go
            shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignored)
        for name, lines in planted.items():
            with (tmp_path / "rl_lab" / name).open("a") as file:
                file.write(f"\n{lines}\n")
        lint = Path(sys.executable).parent / "lint-imports"
        path = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [lint, "--no-cache"], cwd=tmp_path, env=path, capture_output=True, text=True, check=False
        )
        found = re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE)
        assert (found, done.returncode) == (broken, int(bool(broken))), done.stdout + done.stderr


class TestPackages:
    def test_lists_exactly_the_packages_on_disk(self):
        from setuptools import find_packages

        find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
        listed = find_packages(str(ROOT), include=find["include"])
        folders = {p.parent.relative_to(ROOT).parts for p in sources("rl_lab", "envs", "agents")}
        on_disk = {".".join(("rl_lab", *parts) if parts[0] != "rl_lab" else parts) for parts in folders}
        assert sorted(listed) == sorted(on_disk)

    def test_every_folder_of_modules_is_a_package(self):
        folders = {p.parent for p in sources("rl_lab", "envs", "agents")}
        assert [f for f in folders if not (f / "__init__.py").is_file()] == []

    def test_every_package_says_what_it_holds(self):
        paths = [path for path in sources("rl_lab", "envs", "agents") if path.name == "__init__.py"]
        told = {str(path.relative_to(ROOT)): ast.get_docstring(ast.parse(path.read_text())) for path in paths}
        assert [path for path, text in told.items() if not text] == []
        assert len(set(told.values())) == len(told)

    @pytest.mark.parametrize(
        "path", sources("rl_lab", "envs", "agents"), ids=lambda p: str(p.relative_to(ROOT))
    )
    def test_files_stay_readable_in_one_sitting(self, path):
        assert len(path.read_text().splitlines()) < MAX_LINES


def dangers(source: str) -> list[str]:
    """Return what could run code out of a file that is loaded."""
    tree, found = ast.parse(source), []
    modules = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    found += [n for n in imported(source) if n.split(".")[0] in modules]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in {"eval", "exec", "compile", "__import__", "torch.load", "torch.jit.load"}:
            found.append(name)
        if name.startswith("yaml.") and "load" in name and not name.startswith("yaml.safe_load"):
            found.append(name)
        if name.split(".")[-1] in {"load", "save"} and arguments.get("allow_pickle", "False") != "False":
            found.append(name)
        if name in {"np.load", "numpy.load"} and arguments.get("allow_pickle") != "False":
            found.append(name)
    return found


class TestLoadingRunsNoCode:
    @pytest.mark.parametrize(
        "path", sources("rl_lab", "envs", "agents"), ids=lambda p: str(p.relative_to(ROOT))
    )
    def test_no_source_can(self, path):
        if path == ROOT / "rl_lab" / "exporting" / "files.py":
            assert dangers(path.read_text()) == [
                "torch.jit.load"
            ]  # of the file that the same call has written
            return
        assert dangers(path.read_text()) == []

    @pytest.mark.parametrize(
        "source",
        [
            "import pickle",
            "from pickle import loads",
            "def f():\n    import dill as d",
            "eval(x)",
            "exec(x)",
            "torch.load(p, weights_only=True)",
            "yaml.load(x, Loader=yaml.Loader)",
            "yaml.unsafe_load(x)",
            "np.load(p)",
            "np.load(p, allow_pickle=True)",
            "np.save(p, x, allow_pickle=True)",
        ],
    )
    def test_would_be_seen(self, source):
        assert dangers(source) != []

    @pytest.mark.parametrize(
        "source", ["yaml.safe_load(x)", "np.load(p, allow_pickle=False)", "json.loads(x)", "model.eval()"]
    )
    def test_what_is_safe_passes(self, source):
        assert dangers(source) == []


def loaded_after(code: str) -> set[str]:
    """Return the heavy packages that a fresh process has loaded after running `code`."""
    tell = f"\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


class TestCostOfImports:
    def test_importing_the_lab_and_naming_all_it_offers_loads_nothing_heavy(self):
        assert loaded_after("import rl_lab") == set()
        named = loaded_after("import rl_lab\nfor n in rl_lab.__all__: getattr(rl_lab, n)")
        assert named == {"matplotlib"}  # which draws the pages of comparisons

    @pytest.mark.parametrize(("pictures", "loaded"), [(False, set()), (True, {"matplotlib"})])
    def test_tabular_training_loads_nothing_heavy_but_what_draws(self, tmp_path, pictures, loaded):
        code = (
            "import rl_lab\n"
            f"rl_lab.learn('q-learning', 'FrozenLake-v1', run_dir={str(tmp_path / 'run')!r}, total_steps=50,"
            f" eval_episodes=1, video_episodes=0, wandb='disabled', pictures={pictures})"
        )
        assert loaded_after(code) == loaded

    def test_would_be_seen(self):
        assert loaded_after("import torch") == {"torch"}


def silent_raisers(source: str) -> set[str]:
    """Return the public functions and methods that raise an error themselves and don't say so in a docstring.

    What makes an object (`__init__`, `__post_init__`) may say so in the class's. NotImplementedError needs no word.
    """
    found: set[str] = set()

    def visit(node: ast.AST, owner: ast.ClassDef | None) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
                visit(child, child)
            elif isinstance(child, ast.FunctionDef):
                makes = child.name in ("__init__", "__post_init__")
                told = (ast.get_docstring(child) or "") + (
                    (ast.get_docstring(owner) or "") if owner and makes else ""
                )
                if (
                    (makes or not child.name.startswith("_"))
                    and _raises(child)
                    and "raise" not in told.lower()
                ):
                    found.add(f"{owner.name}.{child.name}" if owner else child.name)

    visit(ast.parse(source), None)
    return found


def _raises(function: ast.AST) -> bool:
    """Return whether a function raises an error by name, those defined inside it left out."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.Raise) and child.exc is not None and "NotImplemented" not in ast.dump(child):
            return True
        inner = isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda)
        if not inner and _raises(child):
            return True
    return False


class TestDocstrings:
    def test_what_raises_says_so(self):
        found = {
            p.relative_to(ROOT).as_posix(): silent_raisers(p.read_text())
            for p in sources("rl_lab", "agents", "envs")
        }
        assert {path: names for path, names in found.items() if names} == {}

    def test_those_that_do_not_are_found(self):
        source = (
            "def f():\n    raise A('b')\ndef g():\n    'Raises: A.'\n    raise A\ndef _h():\n    raise A\n"
            "class C:\n    def __post_init__(self):\n        if self:\n            raise A\n"
            "    def k(self): raise NotImplementedError\n"
            "class D:\n    'Raises: A.'\n    def __init__(self): raise A\ndef outer():\n    def inner(): raise A\n"
        )
        assert silent_raisers(source) == {"f", "C.__post_init__"}

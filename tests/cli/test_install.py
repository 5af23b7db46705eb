"""What is installed is `rl_lab` alone, and works whatever lies in the current folder.

A wheel and an editable install go into environments of their own, which share the packages of the running one. From
there, and through the scripts of a checkout, the commands run in an empty folder and in one whose owner has
packages `agents`, `envs` and `runs` and a module `types` of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
FILES = ("rl_lab", "agents", "envs", "scripts", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
OFFLINE = ["--no-deps", "--no-index", "--no-build-isolation"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}


def run(*words: object, cwd: Path) -> str:
    """Run a process to its end and return its stdout."""
    done = subprocess.run([str(w) for w in words], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what is in the repository, links as links."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in FILES:
        source, target = ROOT / name, copy / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    """The wheel that a checkout makes."""
    out = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", *OFFLINE, "-w", out, checkout, cwd=out)
    return next(out.glob("*.whl"))


def new_environment(folder: Path, *package: object) -> Path:
    """Install a package into an environment that shares all others with the running one; return its bin/."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "shared.pth").write_text(
        "\n".join(shared)
    )  # their own .pth files, of editable installs, don't count
    run(*PIP, "--python", folder / "bin" / "python", "install", *OFFLINE, *package, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    return new_environment(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def editable(checkout, tmp_path_factory) -> Path:
    return new_environment(tmp_path_factory.mktemp("editable"), "-e", checkout)


def through_the_wheel(request, name: str) -> list[Path | str]:
    """Return the words that call a command."""
    return [request.getfixturevalue("installed") / "rl-lab", name]


def through_the_editable_install(request, name: str) -> list[Path | str]:
    return [request.getfixturevalue("editable") / "rl-lab", name]


def through_the_scripts(request, name: str) -> list[Path | str]:
    script = request.getfixturevalue("checkout") / "scripts" / f"{name}.py"
    return [request.getfixturevalue("editable") / "python", script]


def make_own_packages(folder: Path, *, module: bool) -> Path:
    """Put packages and modules of the lab's and Python's names into a folder; importing one fails."""
    fail = "raise ImportError('a module of the current folder was imported')\n"
    for name in ("agents", "envs", "runs"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(fail if module else "OWN = True\n")
    if module:
        (folder / "types.py").write_text(fail)
    return folder


class TestCommands:
    def test_work_in_an_empty_folder(self, request, tmp_path):
        self.require_commands(partial(through_the_wheel, request), tmp_path)
        assert "\nq-learning " in run(*through_the_wheel(request, "agents"), cwd=tmp_path)

    @pytest.mark.parametrize("way", [through_the_wheel, through_the_editable_install, through_the_scripts])
    def test_work_beside_packages_of_those_names(self, request, way, tmp_path):
        cwd = make_own_packages(tmp_path, module=True)
        self.require_commands(partial(way, request), cwd)
        if way is not through_the_scripts:
            assert "\nq-learning " in run(*way(request, "agents"), cwd=cwd)

    @staticmethod
    def require_commands(command, cwd: Path) -> None:
        """Train, watch and compare; `command` returns the words that call a command."""
        world = ["--env-id", "lab/RandomWalk-v0", "--total-steps", "50", "--wandb", "disabled"]
        words = ["--agent", "q-learning", "--eval-episodes", "2", "--video-episodes", "0", "--no-pictures"]
        assert "50 environment steps" in run(*command("train"), *world, *words, "--run-dir", "one", cwd=cwd)
        assert " frames, one.gif" in run(*command("watch"), "one", "--gif", "one.gif", cwd=cwd)
        words = ["--agents", "q-learning", "--seeds", "1", "--out", "study"]
        fields = ["--set", "eval_episodes=2", "video_episodes=0", "pictures=false"]
        assert "comparison page: " in run(*command("compare"), *world, *words, *fields, cwd=cwd)
        assert (cwd / "study" / "index.html").is_file()

    def test_python_m_and_the_version(self, installed, tmp_path):
        told = run(installed / "python", "-P", "-m", "rl_lab", "--version", cwd=tmp_path)
        assert told == run(installed / "rl-lab", "--version", cwd=tmp_path)
        version = told.removeprefix("rl-lab ").strip()
        assert f'\nversion = "{version}"' in (ROOT / "pyproject.toml").read_text()
        code = (
            "import rl_lab, rl_lab.storage.versions as v; print(rl_lab.__version__, v.versions()['rl_lab'])"
        )
        assert run(installed / "python", "-c", code, cwd=tmp_path).split() == [version, version]


def test_a_script_beside_packages_of_those_names_uses_both(installed, tmp_path):
    folder = make_own_packages(tmp_path, module=False)
    (folder / "mine.py").write_text(
        "import agents, envs, runs, rl_lab\n"
        "assert agents.OWN and envs.OWN and runs.OWN\n"
        "for agent in ('q-learning', 'value-iteration'):\n"
        "    rl_lab.learn(agent, 'lab/GridWorld-v0', total_steps=50, run_dir='out/' + agent, wandb='disabled',\n"
        "                 eval_episodes=2, video_episodes=0, pictures=False)\n"
    )
    run(installed / "python", "mine.py", cwd=folder)
    assert (folder / "out" / "q-learning" / "summary.json").is_file()


def test_an_editable_install_is_a_path_that_type_checkers_follow(editable, checkout):
    (entry,) = editable.parent.glob("lib/python*/site-packages/__editable__*.pth")
    assert entry.read_text().strip() == str(checkout)


class TestWheel:
    def test_holds_every_module_and_its_data_and_nothing_beside_rl_lab(self, wheel):
        names = set(zipfile.ZipFile(wheel).namelist())
        assert {name.split("/")[0] for name in names} == {
            "rl_lab",
            wheel.name.split("-py3")[0] + ".dist-info",
        }
        wanted = {p.relative_to(ROOT).as_posix() for p in (ROOT / "rl_lab").rglob("*.py")}
        for folder in ("agents", "envs"):  # rglob follows no links
            wanted |= {f"rl_lab/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / folder).rglob("*.py")}
        wanted |= {"rl_lab/py.typed", "rl_lab/agents/presets.yaml", "rl_lab/studies/foreign/zoo_scores.csv"}
        wanted |= {f"rl_lab/studies/page/page.{kind}" for kind in ("html.jinja", "css", "js")}
        wanted |= {f"rl_lab/exporting/{name}.jinja" for name in ("card.html", "play.py")}
        page = ROOT / "rl_lab" / "watching" / "page"
        wanted |= {path.relative_to(ROOT).as_posix() for path in page.iterdir()}
        assert {name for name in names if name.startswith("rl_lab/")} == wanted

    def test_is_the_same_by_way_of_a_source_distribution(self, checkout, wheel, tmp_path):
        build = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
        run(sys.executable, "-c", build, cwd=checkout)
        (source,) = tmp_path.glob("*.tar.gz")
        with tarfile.open(source) as file:
            assert not any(member.issym() for member in file)
        run(*PIP, "wheel", *OFFLINE, "-w", tmp_path / "again", source, cwd=tmp_path)
        (again,) = (tmp_path / "again").glob("*.whl")
        assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())

"""The process that compiles: it ends when it is told to, ends with its parent, and says why it failed."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from rl_lab.updates import compile_process
from rl_lab.updates.compile_process import CompilationFailed, CompilationStopped, compile_in_process
from slow_compiler import ends, is_running, slow_script, was_ended


class Double(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


@pytest.fixture(scope="module")
def exported():
    return torch.export.export(Double(), (torch.ones(2),))


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Puts a script in the place of the one that compiles; returns the folder for what it writes."""

    def write(code: str):
        path = tmp_path / "script.py"
        path.write_text(code)
        monkeypatch.setattr(compile_process, "SCRIPT", path)
        (tmp_path / "private").mkdir()
        return tmp_path / "private"

    return write


def test_a_stop_ends_it_and_leaves_nothing(exported, script, tmp_path, monkeypatch):
    folder = script("")
    monkeypatch.setattr(compile_process, "SCRIPT", slow_script(tmp_path))
    with pytest.raises(CompilationStopped):
        compile_in_process(exported, {}, folder, (tmp_path / "begun").exists)
    assert was_ended(tmp_path)
    assert list(folder.iterdir()) == []


def test_an_exception_such_as_ctrl_c_ends_it_too(exported, script, tmp_path, monkeypatch):
    folder = script("")
    monkeypatch.setattr(compile_process, "SCRIPT", slow_script(tmp_path))

    def interrupt() -> bool:
        if (tmp_path / "begun").exists():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        compile_in_process(exported, {}, folder, interrupt)
    assert was_ended(tmp_path)


def test_what_it_starts_ends_with_it(exported, script, tmp_path):
    code = (
        "import subprocess, time\nfrom pathlib import Path\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "(folder / 'new').write_text(str(child.pid))\n(folder / 'new').rename(folder / 'begun')\ntime.sleep(60)\n"
    )
    with pytest.raises(CompilationStopped):
        compile_in_process(exported, {}, script(code), (tmp_path / "begun").exists)
    assert was_ended(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import sys\nprint('note: x')\nprint('a.cpp:1: error: no such type')\nprint('  ^')\nsys.exit(1)",
            "no such type",
        ),
        ("import sys\nprint('out of luck')\nsys.exit(3)", "out of luck"),
        ("import os\nos._exit(4)", "exit code 4"),
    ],
)
def test_a_failure_is_one_line_with_its_cause(exported, script, code, said):
    with pytest.raises(CompilationFailed) as failed:
        compile_in_process(exported, {}, script(code), lambda: False)
    message = str(failed.value)
    assert said in message
    assert "compile 'no'" in message
    assert "\n" not in message


def test_it_is_given_threads_options_and_a_folder_of_its_own(exported, script):
    code = (
        "import json, os, sys, zipfile\nfrom pathlib import Path\n"
        "graph, package, options, threads = sys.argv[1:]\n"
        "own = Path(os.environ['TORCHINDUCTOR_CACHE_DIR'])\n"
        "assert Path(graph).is_file() and Path(graph).parent == Path(package).parent == own\n"
        "with zipfile.ZipFile(package, 'w') as made:\n"
        "    made.writestr('a/library.so', options + ' ' + threads)\n"
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        made = compile_in_process(exported, {"a": False}, script(code), lambda: False)
    finally:
        torch.set_num_threads(threads)
    assert made == b'{"a": false} 3'


def test_it_ends_with_what_it_started_when_its_parent_is_gone():
    code = (
        "import subprocess, sys\n"
        f"sys.path.insert(0, {str(compile_process.SCRIPT.parent)!r})\n"
        "from compile_child import end_with_parent\n"
        "print(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid, flush=True)\n"
        "end_with_parent()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    started = int(process.stdout.readline())
    assert is_running(started)
    process.stdin.close()
    assert process.wait(60) == -9
    assert ends(started)

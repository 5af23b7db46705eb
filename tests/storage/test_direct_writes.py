"""No module writes a file directly: everything goes through `storage.files`, but for what is listed here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("rl_lab", "agents", "envs", "scripts")
WRITERS = {
    "write_text", "write_bytes", "savefig", "imsave", "imwrite", "mimwrite", "to_csv", "savez",
    "savez_compressed", "savetxt", "tofile", "write_frames", "copyfile", "copy2", "copy", "copytree", "move", "rename",
    "get_writer", "save_file", "NamedTemporaryFile", "mkstemp",
}  # fmt: skip
OF_A_MODULE = {("json", "dump"), ("np", "save"), ("torch", "save"), ("pickle", "dump"), ("h5py", "File")}
OF_A_MODULE |= {("os", "replace"), ("os", "rename"), ("shutil", "copy"), ("yaml", "dump")}
NO_FILES = {"copy"}  # also a method of arrays and dicts: counted only as shutil.copy

ALLOWED = {
    "storage/files.py:write_atomically": "the helper itself; a device is written to as it is",
    "storage/places.py:_require_room": "tries whether a file can be made, and removes it",
    "storage/locking.py:exclusive": "a lock, whose content doesn't matter",
    "runs/rows.py:RowFiles.__init__": "rows are appended, and cut back to the last checkpoint by a resume",
    "runs/tracking.py:_start_process": "the log of a process, which grows as it runs",
    "storage/staging.py:_move_up": "moves files that are whole",
    "datasets/writer.py:_Patient.__init__": "within a temporary folder, which is moved when it is whole",
    "datasets/writer.py:DatasetWriter.__init__": "the same",
    "datasets/writer.py:new_dataset": "moves that folder",
    "studies/migrations.py:rename_folders": "moves a folder",
    "updates/compile_process.py:compile_in_process": "the compiler's input, in a temporary folder",
    "updates/libraries.py:keep_library": "into the temporary of `replacing`",
    "training/extension.py:write_extension": "moves a summary",
    "runs/wandb_segments.py:set_aside": "moves a folder",
    "evaluation/run_curves.py:draw_curves": "into memory",
    "evaluation/pictures.py:png_of": "into memory",
    "evaluation/run_maps.py:RunMaps.write": "into memory",
    "studies/publishing.py:_send": "the log of a process, which grows as it runs",
    "mdp/exchange.py:save_model": "into the temporary of `replacing`",
    "cli/solve.py:_write": "the same",
    "studies/digest.py:_figure": "into memory",
    "studies/packing.py:pack_runs": "into memory",
    "scripts/demo.py:_print_results": "the same",
    "evaluation/encoders.py:GifEncoder.close": "the same",
}


def writes(source: str) -> Iterator[tuple[str, str]]:
    """Yield (function, call) for each call that writes a file."""
    yield from _within(ast.parse(source), "")


def _within(node: ast.AST, place: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        inner = f"{place}.{child.name}".lstrip(".") if named else place
        if isinstance(child, ast.Call) and _writes(child):
            yield place, ast.unparse(child)[:70]
        yield from _within(child, inner)


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = ast.unparse(call.func.value).split(".")[-1] if isinstance(call.func, ast.Attribute) else ""
    if name in ("open", "fdopen"):
        return owner != "os" and _mode_writes(
            call, position=0 if owner and owner not in ("io", "gzip") else 1
        )
    if name in ("File", "ZipFile"):
        return _mode_writes(call, position=1)
    if name == "save" and {keyword.arg for keyword in call.keywords} & {
        "format",
        "save_all",
        "append_images",
    }:
        return True  # Pillow's
    return (owner, name) in OF_A_MODULE or (name in WRITERS and name not in NO_FILES)


def _mode_writes(call: ast.Call, position: int) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[
        position : position + 1
    ]
    texts = [
        value.value for value in given if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]
    return any(set(text) & set("wax+") for text in texts if set(text) <= set("rwaxbt+U"))


@lru_cache(maxsize=1)
def found() -> frozenset[str]:
    places = set()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT)).removeprefix("rl_lab/")
            places |= {f"{name}:{place}" for place, _ in writes(path.read_text(encoding="utf8"))}
    return frozenset(places)


def is_allowed(place: str) -> bool:
    return place in ALLOWED or f"{place.partition(':')[0]}:*" in ALLOWED


def test_nothing_writes_a_file_directly():
    assert {place for place in found() if not is_allowed(place)} == set()


def test_what_is_allowed_is_still_there():
    files = {place.partition(":")[0] for place in found()}
    gone = {p for p in ALLOWED if p not in found() and not (p.endswith(":*") and p[:-2] in files)}
    assert gone == set()


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')", "open(path, mode='ab')", "path.open('w')", "path.open(mode='r+')", "p.write_text(t)",
        "p.write_bytes(b)", "figure.savefig(p)", "json.dump(v, f)", "np.savez(p, a=a)", "np.save(p, a)",
        "frame.to_csv(p)", "image.save(p, format='GIF')", "h5py.File(p, 'w')", "shutil.copy(a, b)", "a.rename(b)",
        "os.replace(a, b)", "torch.save(x, p)", "imageio_ffmpeg.write_frames(p, size)", "io.open(p, 'w')",
        "a.tofile(p)", "with_it = lambda: open(p, 'x')",
    ],
)  # fmt: skip
def test_sees_writes_of_every_kind(line):
    assert [place for place, _ in writes(f"class C:\n    def f(self):\n        {line}")] == ["C.f"]


@pytest.mark.parametrize(
    "line",
    ["open(path)", "path.open('rb')", "array.copy()", "run.save(3, members)", "text.replace('w', 'a')",
     "stack.open(leaves)", "h5py.File(p)", "write_atomically(p, b)"],
)  # fmt: skip
def test_lets_what_only_reads_pass(line):
    assert list(writes(line)) == []

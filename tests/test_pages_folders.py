"""Pages can be followed one after another: each makes runs and studies in folders of its own."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.ipynb")),
]
MADE = re.compile(r"""(?:--run-dir|--out|\brun_dir=|\bout=)[ =\\"']*(runs/[\w-]+(?:/[\w-]+)*)""")


def made_on(page: Path) -> set[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return {name for line in lines if "--resume" not in line for name in MADE.findall(line)}


def test_no_two_pages_make_the_same_folder():
    pages = defaultdict(list)
    for page in PAGES:
        for name in made_on(page):
            pages[name].append(page.relative_to(ROOT).as_posix())
    assert len(pages) > 40
    assert {name: on for name, on in pages.items() if len(on) > 1} == {}

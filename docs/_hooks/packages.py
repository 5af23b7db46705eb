"""The packages of rl_lab as a picture, drawn from what their modules import.

Rows are layers: each package stands one row above the highest that it imports. Arrows that follow from
others (a imports b, b imports c, so a may import c) are left out.
"""

from __future__ import annotations

import html
from collections import defaultdict
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise

import grimp

GROUND = "ground"
WIDTH, HEIGHT, GAP_X, GAP_Y, BEND = 150, 44, 22, 40, 26
Edges = dict[str, set[str]]


def draw_packages() -> str:
    """Return the picture as inline SVG."""
    edges, members = read_packages()
    rows = [sorted(row) for row in layer(edges)]
    row_of = {name: k for k, row in enumerate(rows) for name in row}
    downwards = {a: {b for b in edges[a] if row_of[b] > row_of[a]} for a in edges}
    chains = _chains(reduce_edges(downwards), row_of, rows)
    _sort_rows(rows, chains)
    places = _place(rows)
    width = max(x for x, _ in places.values()) + WIDTH / 2 + GAP_X
    height = max(y for _, y in places.values()) + HEIGHT + 4
    lines = [_arrow([places[name] for name in chain]) for chain in chains]
    boxes = [_box(name, members[name], *places[name]) for name in edges]
    return (
        f'<div><svg class="packages" viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
        ' aria-label="Packages and their imports">' + "".join(lines + boxes) + "</svg></div>"
    )


def read_packages() -> tuple[Edges, dict[str, list[str]]]:
    """Return which package imports which, and the modules of each; plain modules that need none are the ground."""
    graph = grimp.build_graph("rl_lab", cache_dir=None)
    modules = sorted(m.split(".")[1] for m in graph.modules if m.count(".") == 1)
    tops = [m for m in modules if m != "__main__"]  # which only calls cli
    plain = {t for t in tops if not _is_package(t)}
    imported = {t: {u for u in tops if u != t and _imports(graph, t, u)} for t in tops}
    ground = plain.copy()
    while grown := {t for t in ground if imported[t] - ground}:
        ground -= grown
    of = {t: GROUND if t in ground else t for t in tops}
    edges: Edges = {name: set() for name in of.values()}
    members: dict[str, list[str]] = defaultdict(list)
    for top in tops:
        edges[of[top]] |= {of[u] for u in imported[top]} - {of[top]}
        members[of[top]].append(top)
    return edges, members


def _imports(graph: grimp.ImportGraph, importer: str, imported: str) -> bool:
    return graph.direct_import_exists(
        importer=f"rl_lab.{importer}", imported=f"rl_lab.{imported}", as_packages=True
    )


def _is_package(name: str) -> bool:
    spec = find_spec(f"rl_lab.{name}")
    return spec is not None and spec.submodule_search_locations is not None


def layer(edges: Edges) -> list[set[str]]:
    """Return rows from the top down: each package above all that it imports.

    A circle is opened at the package that imports least of it.
    """
    levels: dict[str, int] = {}
    while rest := set(edges) - set(levels):
        ready = {name for name in rest if edges[name] <= set(levels)}
        ready = ready or {min(rest, key=lambda name: (len(edges[name] - set(levels)), name))}
        below = {name: edges[name] & set(levels) for name in ready}
        levels |= {name: 1 + max((levels[n] for n in below[name]), default=-1) for name in ready}
    top = max(levels.values())
    return [{name for name, level in levels.items() if level == top - k} for k in range(top + 1)]


def reduce_edges(edges: Edges) -> Edges:
    """Return the edges that do not follow from others."""
    below: Edges = {}

    def reach(name: str) -> set[str]:
        if name not in below:
            below[name] = edges[name].union(*(reach(n) for n in edges[name]))
        return below[name]

    return {name: edges[name] - set().union(*(reach(n) for n in edges[name])) for name in edges}


# Where things stand ----------------------------------------------------------------------------------


def _chains(edges: Edges, row_of: dict[str, int], rows: list[list[str]]) -> list[list[str]]:
    """Return each edge as a way through the rows, with bends added to the rows it passes."""
    chains = []
    for upper, lowers in edges.items():
        for lower in sorted(lowers):
            between = [f"{upper}>{lower}@{k}" for k in range(row_of[upper] + 1, row_of[lower])]
            for name, k in zip(between, range(row_of[upper] + 1, row_of[lower]), strict=True):
                rows[k].append(name)
            chains.append([upper, *between, lower])
    return chains


def _sort_rows(rows: list[list[str]], chains: list[list[str]]) -> None:
    """Order each row by the mean place of its neighbours, down and up again, so that few arrows cross."""
    neighbours: dict[str, list[str]] = defaultdict(list)
    for chain in chains:
        for a, b in pairwise(chain):
            neighbours[a].append(b)
            neighbours[b].append(a)
    for _ in range(12):
        for k in [*range(len(rows)), *reversed(range(len(rows)))]:
            places = _place(rows)
            mean = {n: sum(places[m][0] for m in neighbours[n]) / max(1, len(neighbours[n])) for n in rows[k]}
            rows[k].sort(key=lambda name: mean[name])


def _place(rows: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Return the middle of the upper side of each box; rows are centred."""
    spans = [sum(_width(name) + GAP_X for name in row) for row in rows]
    places = {}
    for k, row in enumerate(rows):
        x = (max(spans) - spans[k]) / 2 + GAP_X / 2
        for name in row:
            places[name] = (x + _width(name) / 2, 2.0 + k * (HEIGHT + GAP_Y))
            x += _width(name) + GAP_X
    return places


def _width(name: str) -> float:
    return BEND if "@" in name else 2 * WIDTH if name == GROUND else WIDTH


# What is drawn ---------------------------------------------------------------------------------------


def _arrow(points: list[tuple[float, float]]) -> str:
    """Return a curve that leaves a box at its lower side, passes its bends upright and ends above a box."""
    x, y = points[0]
    path = f"M{x:.1f},{y + HEIGHT:.1f}"
    y += HEIGHT
    for k, (to_x, to_y) in enumerate(points[1:], 2):
        middle = (y + to_y) / 2
        path += f" C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
        if k < len(points):
            path += f" V{to_y + HEIGHT:.1f}"
            y = to_y + HEIGHT
    head = f"M{x - 4:.1f},{y - 7:.1f} L{x:.1f},{y:.1f} L{x + 4:.1f},{y - 7:.1f}"
    return f'<path d="{path}"/><path d="{head}"/>'


def _box(name: str, members: list[str], x: float, y: float) -> str:
    width, middle = _width(name), y + HEIGHT / 2 + 4
    label = ", ".join(members)
    kind = ' class="small"' if name == GROUND else ""
    return (
        f"<g><title>{html.escape(_first_line(name, members))}</title>"
        f'<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x:.1f}" y="{middle:.1f}"{kind}>{html.escape(label)}</text></g>'
    )


def _first_line(name: str, members: list[str]) -> str:
    """Return what a package says of itself."""
    if name == GROUND:
        return "Plain data and small helpers: " + ", ".join(members)
    return (import_module(f"rl_lab.{name}").__doc__ or name).strip().splitlines()[0]

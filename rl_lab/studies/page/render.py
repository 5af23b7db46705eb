"""Renders the page of a study: one HTML file with everything that it shows inside it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rl_lab.evaluation.grid_maps import MOST_NUMBERED
from rl_lab.evaluation.statistics import Estimate
from rl_lab.studies.page.clocks import clocks_note
from rl_lab.studies.page.colours import DARK, LIGHT, colour_index, dash_of
from rl_lab.studies.page.contents import Contents
from rl_lab.studies.page.formats import listed, number
from rl_lab.studies.page.interactive import packed_plotly, spec_of
from rl_lab.studies.page.media import diagnosis_pictures, maps, unfilmed, videos
from rl_lab.studies.page.verdict import explained, few_seeds_note, tuning_notes

HERE = Path(__file__).parent
SMALLEST = 0.85  # to which part of its size a map shrinks so that more of them fit side by side


def render(contents: Contents) -> str:
    """Return the page of a study as HTML.

    Scripts run only if their hash stands in the page's policy, whatever names and values of a study hold; the policy
    lets nothing be requested.
    """
    study, script = contents.study, (HERE / "page.js").read_text(encoding="utf-8")
    plotly, plotly_hash = packed_plotly() if contents.charts else ("", "")
    agents = contents.shown.agents
    specs = [spec_of(chart, agents) for chart in contents.charts]
    return _template().render(
        contents=contents,
        study=study,
        light=LIGHT,
        dark=DARK,
        colour_of={agent: colour_index(agents, agent) for agent in agents},
        dash_of={agent: dash_of(agents, agent) for agent in agents},
        maps={env_id: maps(study, env_id) for env_id in study.env_ids},
        diagnosed={env_id: diagnosis_pictures(study, env_id) for env_id in study.env_ids},
        films={env_id: videos(study, env_id) for env_id in study.env_ids},
        unfilmed={env_id: unfilmed(study, env_id) for env_id in study.env_ids},
        notes=tuning_notes(study),
        few=few_seeds_note(study),
        clocks=clocks_note(study),
        explained=explained(contents.pairs, sequential=contents.decision is not None),
        most_numbered=MOST_NUMBERED,
        smallest=SMALLEST,
        hashes=[h for h in (_sha256(script), plotly_hash) if h],
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        charts=_json(specs),
        colours=_json({"light": LIGHT, "dark": DARK}),
        plotly=Markup(plotly),
    )


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["listed"] = listed
    environment.filters["estimate"] = _estimate
    return environment.get_template("page.html.jinja")


def _estimate(estimate: Estimate) -> Markup:
    """Return a number with its interval beneath it."""
    value = escape(number(estimate.value))
    if estimate.low != estimate.low:  # of a single run
        return value
    return value + Markup(" <small>[{}, {}]</small>").format(number(estimate.low), number(estimate.high))


def _json(value: Any) -> Markup:
    """Return JSON that can't end the element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")

"""Fill the pages with what is read from the code when they are built.

A page asks for it with an HTML comment on a line of its own:

    <!-- fields: dqn -->     the fields of an agent's Config
    <!-- fields: run -->     the fields that all agents share
    <!-- packages -->        the packages and their imports, as a picture
    <!-- spaces: action -->  the spaces that each agent takes, as a table with notes
    <!-- way of a step -->   the files that an update of vanilla DQN enters, as a table

Comments that begin with `test:` tell tests/test_docs.py how to run the block below them; they are left out.
"""

from __future__ import annotations

import re
from typing import Any

from fields import agent_fields, run_fields
from packages import draw_packages
from space_tables import spaces_table
from way import way_table

ASKED = re.compile(
    r"^<!-- (fields: (?P<agent>[\w-]+)|spaces: (?P<kind>observation|action)|packages|way of a step) -->$",
    re.MULTILINE,
)
HOW_TO_TEST = re.compile(r"^<!-- test: .*? -->\n", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the comments of one page."""
    return ASKED.sub(_answer, HOW_TO_TEST.sub("", markdown))


def _answer(asked: re.Match[str]) -> str:
    agent = asked["agent"]
    if "way of a step" in asked[0]:
        return way_table()
    if asked["kind"]:
        return spaces_table(asked["kind"])
    if agent is None:
        return draw_packages()
    return run_fields() if agent == "run" else agent_fields(agent)

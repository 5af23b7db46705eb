"""Whatever is given as a field: a config that config.json brings back, or one line."""

from __future__ import annotations

import dataclasses
import json

from fuzz import NUMBERS, OF_NUMPY, OTHERS, TEXT, VALUES, fuzzed, mutations, require_one_line
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import RunDescription, read_description
from rl_lab.storage.errors import FormatTooNew
from rl_lab.training.registry import config_of, make_config
from rl_lab.training.setup import configs_of
from rl_lab.types import UsageError

AGENTS = ("q-learning", "dqn", "ppo", "clone", "value-iteration", "random", "sb3-dqn")
for name in AGENTS:
    config_of(name)  # imported before anything is drawn


@st.composite
def fields_of(draw: st.DrawFn, agent: str) -> dict:
    """Draw some fields of an agent and of the run, rarely one that neither has, with any values."""
    names = [f.name for kind in (RunConfig, config_of(agent)) for f in dataclasses.fields(kind)]
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    unknown = draw(st.lists(TEXT, max_size=1)) if draw(st.integers(0, 9)) == 0 else []
    return {"env_id": "FrozenLake-v1"} | {name: draw(_likely(name)) for name in [*chosen, *unknown]}


def _likely(name: str) -> st.SearchStrategy:
    """Return what is drawn for a field: anything, and more often what comes close to its type."""
    of_env = st.dictionaries(TEXT, VALUES, max_size=2)
    return st.one_of(VALUES, of_env if name == "env_kwargs" else NUMBERS | OF_NUMPY | OTHERS)


@given(st.sampled_from(AGENTS).flatmap(lambda agent: st.tuples(st.just(agent), fields_of(agent))))
@fuzzed(200)
def test_fields_are_a_config_or_one_line(drawn):
    agent, fields = drawn
    try:
        own, of_run = configs_of(agent, fields)
    except UsageError as error:
        require_one_line(error)
        return
    described = RunDescription(agent, dataclasses.asdict(own), of_run, None, None, {}, "hash").to_json()
    stored = json.loads(json.dumps(described))
    back = RunDescription.from_json(stored)
    given_back = dataclasses.replace(of_run, env_kwargs=stored["env_kwargs"])  # JSON has lists for tuples
    assert repr(back.config) == repr(given_back)  # as text, since nan isn't equal to itself
    assert repr(make_config(agent, **back.fields)) == repr(own)


BODY = RunDescription("dqn", {"hidden": [8, 4], "gamma": 0.9}, RunConfig("CartPole-v1", eval_gamma=0.9), None, None,
                      {"python": "3"}, "hash").to_json()  # fmt: skip


@given(mutations(json.loads(json.dumps(BODY))))
@fuzzed(200)
def test_a_changed_config_json_is_read_or_refused_in_one_line(tmp_path_factory, body):
    folder = tmp_path_factory.getbasetemp()
    (folder / "config.json").write_text(json.dumps(body))
    try:
        description = read_description(folder)
        make_config(description.agent, **description.fields)
    except (UsageError, FormatTooNew) as error:
        require_one_line(error)

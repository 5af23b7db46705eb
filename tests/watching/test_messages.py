"""Messages: which are taken, and that everything else is refused without an effect."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.watching.messages import KINDS, Look, Malformed, Past, Press, Reasons, Restart, Seek, Speed, parse

NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["factor", "seed", "step", "agent", "action", "episode", "method", "seen", "x"])
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from([*KINDS, "nothing"]) | NESTED},
) | st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from([*KINDS]),
    st.dictionaries(FIELDS, NESTED, max_size=2),
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type": "seek", "step": 12}', Seek(12)),
        ('{"type": "speed", "factor": 2}', Speed(2.0)),
        ('{"type": "speed", "factor": 0}', Speed(0.0)),
        ('{"type": "restart", "seed": null}', Restart(None)),
        ('{"type": "press", "action": 1}', Press(1)),
        ('{"type": "past", "episode": "every:10"}', Past("every:10")),
        ('{"type": "past", "episode": "0"}', Past("0")),
        ('{"type": "reasons", "method": ""}', Reasons("")),
        ('{"type": "look", "seen": false}', Look(False)),
    ],
)
def test_a_message_becomes_its_command(text, command):
    assert parse(text) == command


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no JSON"),
        ("[]", "no object"),
        ("{}", "type 'None' is unknown"),
        ('{"type": ["play"]}', "is unknown"),
        ('{"type": "play", "x": 1}', "play has the fields x"),
        ('{"type": "seek"}', "seek has the fields none"),
        ('{"type": "seek", "step": true}', "step is 'True'"),
        ('{"type": "seek", "step": 1.5}', "step is '1.5'"),
        ('{"type": "seek", "step": -1}', "step -1"),
        ('{"type": "speed", "factor": NaN}', "factor is 'nan'"),
        ('{"type": "speed", "factor": 1e5}', "factor 100000.0"),
        ('{"type": "restart", "seed": 2147483648}', "seed 2147483648"),
        ('{"type": "past", "episode": "../x"}', "episode '../x'"),
        ('{"type": "past", "episode": "every:0"}', "allowed: best, worst, last, every:N, or a number"),
        ('{"type": "past", "episode": "5\\n"}', "episode '5"),
        ('{"type": "look", "seen": 1}', "seen is '1' (allowed: bool)"),
        ('{"type": "reasons", "method": null}', "method is 'None' (allowed: str)"),
        ('{"type": "seek", "step": ' + "9" * 4050 + "}", "step of many digits"),
        ("[" * 4000, "no JSON"),
        ("x" * 5000, "a message of 5000 bytes"),
    ],
)
def test_what_means_nothing_is_refused_in_a_line(text, complaint):
    with pytest.raises(Malformed) as raised:
        parse(text)
    assert complaint in str(raised.value)
    assert len(str(raised.value)) < 200
    assert "\n" not in str(raised.value)


@settings(max_examples=150, deadline=None)
@given(MESSAGES | NESTED)
def test_any_json_is_a_command_or_malformed(message):
    text = json.dumps(message)
    try:
        command = parse(text)
    except Malformed:
        return
    assert type(command) is KINDS[message["type"]]

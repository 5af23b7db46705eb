"""Options that another agent has."""

from __future__ import annotations

from commands import TABLE, call, require_refusal
from rl_lab.cli import owners
from rl_lab.cli.owners import owners_of, with_owners
from rl_lab.cli.train import train

LINE = "Unrecognized options: --no-such, 0.5 (close: --other; --help-all lists all options)"


def test_agents_that_have_a_field_are_named(capsys):
    found = call(capsys, train, *TABLE, "--trace-decay", "0.5")
    require_refusal(
        found, "--trace-decay, 0.5 (--trace-decay is a field of ", "sarsa-lambda", "not of q-learning;"
    )
    assert "q-learning" not in owners_of("trace_decay")
    assert set(owners_of("ucb_width")) >= {"q-learning", "sarsa", "dyna-q"}


def test_what_nobody_has_is_left_to_the_parser():
    assert with_owners(LINE, "q-learning") == LINE
    assert with_owners("gamma must be at least 0", "q-learning") == "gamma must be at least 0"


def test_many_agents_are_counted(monkeypatch):
    monkeypatch.setattr(owners, "owners_of", lambda field: [f"agent-{k}" for k in range(10)])
    told = with_owners(LINE, "q-learning")
    assert told.startswith("Unrecognized options: --no-such, 0.5 (--no-such is a field of agent-0, agent-1,")
    assert told.endswith("agent-7 and 2 more, not of q-learning; --help-all lists all options)")

"""What a distilled clone takes from its teacher."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rl_lab.exporting.smaller import _student_fields
from rl_lab.training.setup import require_effect


@pytest.mark.parametrize(
    ("memory", "taken"),
    [
        ("none", {"memory": "none"}),
        ("gru", {"memory": "gru", "memory_size": 4}),
        ("attention", {"memory": "attention", "memory_size": 4, "context": 9}),
    ],
)
def test_a_field_that_did_nothing_for_the_teacher_is_left_out(memory, taken):
    """A run may hold one, from a file or an older version."""
    teacher = {"memory": memory, "context": 9, "memory_size": 32, "gamma": 0.9}
    fields = _student_fields(SimpleNamespace(description=SimpleNamespace(fields=teacher)), (8, 4))
    assert fields == taken | {"hidden": (8, 4)}
    require_effect("clone", fields)

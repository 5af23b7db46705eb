"""Checks of a config's fields: what passes, and the one line that names what doesn't."""

from __future__ import annotations

import dataclasses

from rl_lab.checks import widths


def test_no_dense_layer_at_all_is_allowed():
    config = dataclasses.make_dataclass("Config", [("hidden", tuple)])(())
    assert widths(config, "hidden") is None

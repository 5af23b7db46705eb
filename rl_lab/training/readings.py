"""Whether two runs see the same numbers in the same images, and mean the same by equal weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from rl_lab.runs.migrations import READING


def differing_reading(config: Any, space: spaces.Space, there: Mapping[str, Any]) -> str | None:
    """Return how another run read images otherwise than one with this config (a few words), or None if it didn't.

    Args:
        config: an instance of an agent's Config; agents without such fields are not compared.
        space: what both observe.
        there: the agent's fields in the other run, in the current format.
    """
    own = getattr(config, "__dataclass_fields__", {})
    defaults = {name: own[name].default for name in READING if name in own}
    if defaults.keys() != READING.keys() or config.encoder == "mlp" or "encoder" not in there:
        return None
    from rl_lab.nn.images import images_read  # brings torch, which such an agent needs anyway

    fields = {name: there.get(name, default) for name, default in defaults.items()}
    other = dataclasses.replace(config, **fields)
    seen, seen_there = (images_read(space, each.channels, each.image_scale) for each in (config, other))
    return (
        None if seen == seen_there else f"channels {other.channels!r} and image_scale {other.image_scale!r}"
    )


MEANING = ("distribution", "value_rescaling", "prior_scale", "activation")
RANGE = ("v_min", "v_max")


def differing_meaning(config: Any, there: Mapping[str, Any]) -> str | None:
    """Return what another run meant by equal weights otherwise than one with this config (a few words), or None.

    Args:
        config: an instance of an agent's Config; fields that only one of both has are not compared.
        there: the agent's fields in the other run, in the current format.
    """
    names = MEANING + (RANGE if getattr(config, "distribution", None) == "categorical" else ())
    for name in names:
        if name in there and hasattr(config, name) and there[name] != (own := getattr(config, name)):
            return f"{name} {there[name]!r}, but here it is {own!r}"
    return None

"""What a preset comes to."""

import dataclasses

from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import make_config


def whole(agent, fields):
    """Return the fields that a run with this preset has, defaults included."""
    defaults = {f.name: f.default for f in dataclasses.fields(RunConfig)}
    own = {name: value for name, value in fields.items() if name not in defaults}
    return defaults | dataclasses.asdict(make_config(agent, **own)) | fields

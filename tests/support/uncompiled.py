"""What stands for compiled updates where tests need their arithmetic, and no compiler."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from rl_lab.trees import map_leaves


def uncompiled(
    key: Hashable, function: Callable[..., Any], *trees: Any, should_stop: Callable[[], bool] | None = None
) -> Callable[[list[Tensor]], list[Tensor]]:
    """Take the place of `compiled`: return the function itself, as one of the leaves of its arguments."""

    def call(leaves: list[Tensor]) -> list[Tensor]:
        rest = iter(leaves)
        with torch.no_grad():
            return list(function(*map_leaves(lambda _: next(rest), trees)))

    return call

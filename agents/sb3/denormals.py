"""Subnormal numbers taken for 0 by the processor, for as long as SB3 learns.

SB3's Adam keeps averages of gradients that decay until they are subnormal, with which processors compute many times
as slowly. (The lab's own optimisers set such averages to 0 themselves.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

SUBNORMAL = 1e-310


def flushes_denormals() -> bool:
    """Return whether this thread takes subnormal numbers for 0 now."""
    return float(torch.tensor(SUBNORMAL, dtype=torch.float64) * 1.0) == 0.0


@contextmanager
def flushed_denormals(flush: bool) -> Iterator[None]:
    """Take subnormal numbers for 0, or don't, for the length of a `with` block; afterwards all is as before."""
    before = flushes_denormals()
    torch.set_flush_denormal(flush)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def refuse_flushing(config: Any) -> str | None:
    """Return why `flush_denormals` isn't possible on this processor (one line); None if it is, or isn't asked for."""
    if not config.flush_denormals:
        return None
    before = flushes_denormals()
    possible = torch.set_flush_denormal(True)
    torch.set_flush_denormal(before)
    return (
        None
        if possible
        else f"{config.NAME}: flush_denormals isn't possible on this processor (allowed: False)"
    )

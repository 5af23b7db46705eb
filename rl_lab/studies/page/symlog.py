"""An axis that is logarithmic and still shows zero: linear below a threshold. plotly has none of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_lab.types import Array

LINEAR = 0.7  # how long the linear part is, in decades
DECADES = 4  # below the largest value; smaller ones are drawn linearly


@dataclass(frozen=True)
class Symlog:
    """Places numbers on the axis: [-threshold, threshold] linearly, beyond it by their logarithm."""

    threshold: float

    @classmethod
    def of(cls, values: ArrayLike) -> Symlog:
        """Return the axis for values, of which at least one is above zero."""
        given = np.asarray(values, dtype=float)
        positive = given[given > 0]
        smallest = max(float(positive.min()), float(positive.max()) / 10.0**DECADES)
        return cls(float(10.0 ** np.floor(np.log10(smallest))))

    def __call__(self, values: ArrayLike) -> Array:
        """Return where numbers [...] lie on the axis, [...]."""
        given = np.asarray(values, dtype=float)
        size = np.maximum(np.abs(given) / self.threshold, 1.0)
        return np.where(
            np.abs(given) <= self.threshold,
            given / self.threshold * LINEAR,
            np.sign(given) * (LINEAR + np.log10(size)),
        )

    def ticks(self, values: Iterable[float]) -> list[float]:
        """Return zero and the powers of ten from the threshold to the largest value."""
        largest = max(values)
        count = int(np.ceil(np.log10(max(largest / self.threshold, 1.0)) - 1e-9)) + 1
        return [0.0, *(float(f"{self.threshold * 10.0**k:.3g}") for k in range(count))]

"""Cells of a table by their place in the space: the nearest one answers for a configuration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ithaca.tuners.space import Choice, Config, Space

_UNEQUAL = 0.5
"""Square of the distance between two options, as far apart as 0.7 of a range."""


class Nearest:
    """Values and costs at some configurations of a space.

    Args:
        space: on whose scales distances are taken.
        cells: configuration, value, seconds.
    """

    def __init__(self, space: Space, cells: Sequence[tuple[Config, float, float]]) -> None:
        self._space = space
        self._points = np.array([self._point(config) for config, _, _ in cells])
        self._answers = [(value, seconds) for _, value, seconds in cells]

    def look_up(self, config: Config) -> tuple[float, float]:
        """Value and seconds of the nearest cell; the first of several."""
        point = self._point(config)
        distances = ((self._points - point) ** 2).sum(axis=1)
        return self._answers[int(distances.argmin())]

    def _point(self, config: Config) -> NDArray[np.float64]:
        """Places in 0 to 1, one for each option of a choice; 0.5 for what does not count."""
        point: list[float] = []
        for parameter in self._space.parameters:
            domain, counts = parameter.domain, parameter.name in config
            if isinstance(domain, Choice):
                side = (_UNEQUAL / 2) ** 0.5
                chosen = domain.index(config[parameter.name]) if counts else -1
                point += [side * (i == chosen) for i in range(len(domain.options))]
            else:
                point.append(domain.place(config[parameter.name]) if counts else 0.5)
        return np.array(point)

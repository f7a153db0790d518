"""Where to write the names of points in a drawing so that they cover neither each other nor what is drawn.

Every name has a few hundred possible places around its point. Each name in turn takes the one that is best given the
others', until none moves; of several such descents, from different beginnings, the best counts (Christensen, Marks &
Shieber 1995, "An empirical study of algorithms for point-feature label placement", ACM Transactions on Graphics 14).
Same input, same places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DIRECTIONS = 20
DISTANCES = (5.0, 8.0, 11.5, 16.0, 21.0, 27.0, 34.0, 43.0, 53.0, 65.0, 80.0, 97.0)
SWEEPS, DESCENTS = 20, 5
GOOD = 30.0
"""Cost of a name in a placing that no further descent need improve: 20 points away, and over nothing."""
MARGIN = 2.0
"""Kept free around each name."""
RADIUS = 4.5
"""Half the width of a point's marker."""
OUTSIDE, COVERED, CROSSED, FAR = 100.0, 20.0, 400.0, 1.5
"""What is bad: each square point outside the bounds, or over something else; a leader that crosses another, a name or a
point; each point away."""
MARKER = 100.0
"""What is worse than the cover of a line: each square point over a marker."""


def place(points: Array, sizes: Array, taken: Array, bounds: Sequence[float]) -> Array:
    """[n, 2] lower left corners for names of `sizes` [n, 2] at `points` [n, 2], all in typographic points.

    taken: [m, 4] boxes (x0, y0, x1, y1) that are better not covered. bounds: the box to stay in.
    """
    n = len(points)
    if not n:
        return np.empty((0, 2))
    options = np.stack([_around(point, size) for point, size in zip(points, sizes, strict=True)])
    boxes = np.concatenate([options - MARGIN, options + sizes[:, None] + MARGIN], axis=-1)
    ends = leader(points[:, None], boxes)
    area = np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
    inside = _shared(boxes, np.array([bounds], dtype=float))
    away = np.linalg.norm(ends - points[:, None], axis=-1)
    markers = np.concatenate([points - RADIUS, points + RADIUS], axis=1)
    alone = OUTSIDE * (area - inside) + COVERED * _shared(boxes, taken) + MARKER * _shared(boxes, markers) + FAR * away
    for i in range(n):
        others = points[(np.abs(points - points[i]) > 2 * MARGIN).any(axis=1)]
        spots = np.concatenate([others - 2 * MARGIN, others + 2 * MARGIN], axis=1)
        alone[i] += CROSSED * _through(points[i], ends[i][:, None], spots).sum(axis=1)

    def costs(i: int, chosen: Array) -> Array:
        """The cost of each place of name i, with the others where they are."""
        others = np.arange(n) != i
        box, end = boxes[others, chosen[others]], ends[others, chosen[others]]
        point, own = points[others], (points[i], ends[i][:, None])
        lines = _crossing(*own, point, end).sum(axis=1)
        names = _through(*own, box).sum(axis=1) + _through(point, end, boxes[i][:, None]).sum(axis=1)
        return alone[i] + COVERED * _shared(boxes[i], box) + CROSSED * (lines + names)

    random = np.random.default_rng(0)
    best, least = alone.argmin(axis=1), np.inf
    for descent in range(DESCENTS):
        chosen = alone.argmin(axis=1) if not descent else random.integers(alone.shape[1], size=n)
        for _ in range(SWEEPS):
            before = chosen.copy()
            for i in random.permutation(n):
                chosen[i] = costs(i, chosen).argmin()
            if (chosen == before).all():
                break
        total = sum(costs(i, chosen)[chosen[i]] for i in range(n))
        if total < least:
            best, least = chosen, total
        if least < n * GOOD:
            break
    return options[np.arange(n), best]


def covers(points: Array, corners: Array, sizes: Array) -> bool:
    """Whether a name of `sizes` at its lower left corner covers another one, or the marker of a point."""
    names = np.concatenate([corners, corners + sizes], axis=1)
    markers = np.concatenate([points - RADIUS, points + RADIUS], axis=1)
    others = _shared(names, names) - np.prod(sizes, axis=1)
    return bool((others > 1e-6).any() or (_shared(names, markers) > 0).any())


def leader(point: Array, box: Array) -> Array:
    """The nearest spot of a box [..., 4] to the point, where a line to its name ends."""
    return np.clip(point, box[..., :2], box[..., 2:])


def _around(point: Array, size: Array) -> Array:
    """[k, 2] corners of boxes of that size, at each distance in each direction."""
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    way = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centers = way * np.array(DISTANCES)[:, None, None] + way * size / 2
    return (point + centers - size / 2).reshape(-1, 2)


def _shared(boxes: Array, others: Array) -> Array:
    """The area that each of the boxes [..., 4] shares with the others [m, 4], summed over them."""
    low = np.maximum(boxes[..., None, :2], others[:, :2])
    high = np.minimum(boxes[..., None, 2:], others[:, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=-1).sum(axis=-1)


def _side(a: Array, b: Array, c: Array) -> Array:
    """On which side of the line from a to b each c is."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _crossing(a: Array, b: Array, c: Array, d: Array) -> Array:
    """Whether the segments from a to b and from c to d cross."""
    return (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)


def _through(a: Array, b: Array, box: Array) -> Array:
    """Whether the segment from a to b crosses a diagonal of the box."""
    low, high = box[..., :2], box[..., 2:]
    left = np.stack([box[..., 0], box[..., 3]], axis=-1)
    right = np.stack([box[..., 2], box[..., 1]], axis=-1)
    return _crossing(a, b, low, high) | _crossing(a, b, left, right)

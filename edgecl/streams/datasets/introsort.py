"""The order in which NumPy's scalar quicksort leaves equal values: published streams hang on it.

CI and CDI of MODES and MOONS were made with `np.argsort`, whose ties fall as the algorithm swaps. A processor with AVX-512 or
AVX2 gets another one today, so it is written out here.
"""

from __future__ import annotations

import numpy as np

from edgecl.types import Ints

_SMALL = 15  # a piece no longer than this plus one is sorted by insertion, which keeps ties as they are


def argsort(values: Ints) -> Ints:
    """Rows that sort `values` (n,), of few different values, as the partition by the median of three orders them."""
    v, rows = values.tolist(), list(range(len(values)))
    todo = [(0, len(rows) - 1)]
    while todo:
        low, high = todo.pop()
        while high - low > _SMALL:
            middle = low + (high - low >> 1)
            for a, b in ((low, middle), (middle, high), (low, middle)):
                if v[rows[b]] < v[rows[a]]:
                    rows[a], rows[b] = rows[b], rows[a]
            pivot, i, j = v[rows[middle]], low, high - 1
            rows[middle], rows[j] = rows[j], rows[middle]
            while True:
                i += 1
                while v[rows[i]] < pivot:
                    i += 1
                j -= 1
                while pivot < v[rows[j]]:
                    j -= 1
                if i >= j:
                    break
                rows[i], rows[j] = rows[j], rows[i]
            rows[i], rows[high - 1] = rows[high - 1], rows[i]
            todo.append((i + 1, high))
            high = i - 1
        rows[low : high + 1] = sorted(rows[low : high + 1], key=v.__getitem__)
    return np.array(rows, np.int64)

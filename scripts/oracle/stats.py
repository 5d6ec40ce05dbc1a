#!/usr/bin/env python3
"""Statistics of reports, computed anew by numpy and scipy, as JSON.

    pip install numpy scipy
    scripts/oracle/stats.py > reports/tests/golden/oracle.json
"""

import json

import numpy as np
import scipy
from scipy import optimize, stats

SAMPLES = [
    [3.0, 1.0, 2.0],
    [152.1, 149.7, 160.2, 151.0],
    [0.0101, 0.0099, 0.0131, 0.0102, 0.0098],
    [5.5, 1e-3, 2e4, 7.25, 7.25, 12.0],
    [0.5 + 0.25 * ((7 * i) % 11) for i in range(10)],
    [100 + ((37 * i) % 41) ** 1.5 for i in range(40)],
]
QUANTILES = [0.0, 0.05, 0.5, 0.9, 0.95, 0.99, 1.0]


def held(k, n):
    """Probability that the median lies between the k-th least and the k-th greatest of n."""
    return 1 - 2 * stats.binom.cdf(k - 1, n, 0.5)


def median_interval(values, confidence=0.95):
    """Hettmansperger and Sheather's interval of the median; the range where even that holds it too seldom."""
    x, n = np.sort(values), len(values)
    k = max((k for k in range(1, n // 2 + 1) if held(k, n) >= confidence), default=None)
    if k is None:
        return float(x[0]), float(x[-1])
    i = (held(k, n) - confidence) / (held(k, n) - held(k + 1, n))
    weight = (n - k) * i / (k + (n - 2 * k) * i)
    return tuple(float(y[k - 1] * (1 - weight) + y[k] * weight) for y in (x, x[::-1]))


def sample(values):
    return {
        "values": values,
        "median": float(np.median(values)),
        "mad": float(stats.median_abs_deviation(values)),
        "quantiles": [[q, float(np.quantile(values, q))] for q in QUANTILES],
        "geometric_mean": float(stats.gmean(values)),
        "interval": median_interval(values),
    }


def line(points):
    """Least squares of relative residuals, no coefficient under 0."""
    x, y = points[:, 1], points[:, 2]
    scale = x.max()
    found, _ = optimize.nnls(np.column_stack([1 / y, x / scale / y]), np.ones(len(y)))
    return float(found[0]), float(found[1] / scale)


def half(parts):
    """Half a 95 % interval of a sum of parts: mean squares times factors, each with its own Student's t (Howe 1974)."""
    return np.sqrt(sum(square * factor * stats.t.ppf(0.975, freedom) ** 2 for square, freedom, factor in parts))


def mean_squares(table, processes):
    """Of logarithms of line over time, sizes by blocks, `nan` where nothing ran: the sum of squares between sizes; the mean squares between
    blocks and of the rest, each with its degrees of freedom."""
    of_size = np.nanmean(table, axis=1, keepdims=True)
    within = table - of_size
    of_block = np.nanmean(within, axis=0, keepdims=True)
    there = np.isfinite(table)
    sizes, blocks = table.shape
    rest = np.nansum((within - of_block) ** 2)
    return (
        np.sum(there * of_size**2),
        (np.sum(there * of_block**2) / (blocks - 1), blocks - 1),
        (rest / (processes - sizes - blocks + 1), processes - sizes - blocks + 1),
    )


def fit(points, predicted):
    points = np.array(points)
    a, b = line(points)
    block_names, sizes = np.unique(points[:, 0]), np.unique(points[:, 1])
    table = np.full((len(sizes), len(block_names)), np.nan)
    for block, x, y in points:
        table[np.searchsorted(sizes, x), np.searchsorted(block_names, block)] = np.log((a + b * x) / y)
    n, (k, m) = len(points), table.shape
    between_sizes, block, rest = mean_squares(table, n)

    def size(coefficients):
        return between_sizes / (k - coefficients), k - coefficients

    # Ordinary least squares of relative residuals, coefficients of either sign.
    design = np.column_stack([1 / points[:, 2], points[:, 1] / points[:, 2]])
    free = np.linalg.lstsq(design, np.ones(n), rcond=None)[0]
    scale = np.array([1, points[:, 1].max()])
    covariance = np.linalg.inv((design / scale).T @ (design / scale)) / np.outer(scale, scale)
    between = max(block[0] - rest[0], 0) / n

    over = half([(*size(2), covariance[0, 0]), (between, block[1], free[0] ** 2)])
    if a == 0:  # A line through zero has one coefficient.
        covariance = np.diag([0, 1 / np.sum(design[:, 1] ** 2)])
    line_of = size(1 if a == 0 else 2)
    slope = half([(*line_of, covariance[1, 1] / b**2), (between, block[1], 1)])
    at = np.array([1, predicted])
    value = a + b * predicted
    new_block = (1 + 1 / m) * m / n
    off = half(
        [
            (*line_of, at @ covariance @ at / value**2 + k / n),
            (*block, new_block),
            (*rest, max(1 - k / n - new_block, 0)),
        ]
    )
    return {
        "points": points.tolist(),
        "overhead": a,
        "per_byte": b,
        "overhead_interval": [max(0, free[0] - over), max(0, free[0] + over)],
        "bandwidth_interval": [1 / b / (1 + slope), 1 / b * (1 + slope)],
        "predicted_bytes": predicted,
        "predicted": value,
        "predicted_interval": [value / (1 + off), value * (1 + off)],
    }


def fits():
    rng = np.random.default_rng(2410)
    sizes = [6e7, 1.6e8, 2.7e8, 4.4e8, 9.3e8, 1.9e9]

    def made(overhead, bandwidth, noise, blocks):
        return [
            [block, x, (overhead + x / bandwidth) * float(np.exp(rng.normal(0, noise)))]
            for block in range(blocks)
            for x in sizes
        ]

    uneven = made(1e-3, 2.5e10, 0.08, 4)
    # Later blocks lack the largest sizes, as under a budget.
    uneven = [p for p in uneven if not (p[0] >= 2 and p[1] > 5e8)]
    through_zero = [[block, x, y * (x / 1e9) ** 0.3] for block, x, y in made(0.0, 1e10, 0.02, 3)]
    return [fit(made(5e-4, 2e10, 0.03, 3), 2.5e10), fit(uneven, 8e9), fit(through_zero, 4e9)]


def main():
    out = {
        "made_by": f"scripts/oracle/stats.py, numpy {np.__version__}, scipy {scipy.__version__}",
        "samples": [sample(values) for values in SAMPLES],
        "fits": fits(),
        "student": [[f, float(stats.t.ppf(0.975, f))] for f in [1, 2, 3, 4, 5, 9, 30, 151, 1000]],
    }
    print(json.dumps(out))


main()

#!/usr/bin/env python3
"""Statistics of reports, computed anew by numpy and scipy, as JSON.

    pip install numpy scipy
    scripts/oracle/stats.py > reports/tests/golden/oracle.json

Intervals of fits are exact here, over every resample that there is, where reports draws 10,000: the test allows for that.
"""

import itertools
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


def inverse_cdf(values, q):
    """The smallest value that a share q of the values does not exceed."""
    return float(np.quantile(values, q, method="inverted_cdf"))


def ends(values):
    """Where the ends of a 95 % interval lie: around 2.5 and 97.5 %, as 10,000 draws of the values hit those but nearly."""
    return [[inverse_cdf(values, q) for q in pair] for pair in ((0.02, 0.03), (0.97, 0.98))]


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


def fit(points, predicted):
    points = np.array(points)
    blocks = [points[points[:, 0] == block] for block in np.unique(points[:, 0])]
    lines = [line(np.concatenate(draw)) for draw in itertools.product(blocks, repeat=len(blocks))]
    a, b = line(points)
    n = len(points)
    residuals = ((a + b * points[:, 1]) / points[:, 2] - 1) * np.sqrt(n / (n - 2))
    draws = [(la + lb * predicted) / (1 + r) for la, lb in lines for r in residuals]
    return {
        "points": points.tolist(),
        "overhead": a,
        "per_byte": b,
        "overhead_interval": ends([la for la, _ in lines]),
        "bandwidth_interval": ends([1 / lb for _, lb in lines]),
        "predicted_bytes": predicted,
        "predicted": a + b * predicted,
        "predicted_interval": ends(draws),
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
    }
    print(json.dumps(out))


main()
